"""Warnings about embeddings and results that suggest that a network receives images it does not expect."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vargfacenet.eval.protocols.detail import Detail
from vargfacenet.eval.protocols.normalize import l2_normalize

log = logging.getLogger(__name__)

CAUSES = (
    "likely causes: a wrong scaling of images (--input-mean, --input-std), RGB instead of BGR (--bgr), another alignment of "
    "the faces, another layout of the input, or wrong labels"
)
_FEWEST, _SAMPLE = 8, 512  # smallest and largest number of embeddings that are compared
_ALIKE = 0.9  # mean cosine of different images above which a network does not distinguish them
_CHANCE, _FEWEST_PAIRS = 0.65, 50
_ABOVE_CHANCE = 3.0  # times the rate of chance: below, a TAR or a rank-k is near chance
_END = 0.995  # the grid of thresholds of verification has steps of 0.005


def warn_without_spread(embeddings: np.ndarray) -> bool:
    """Warn, and return True, if nearly all embeddings (n, embedding_size) have the same direction."""
    rows = np.asarray(embeddings[:: max(1, len(embeddings) // _SAMPLE)], np.float64)
    if len(rows) >= _FEWEST:
        rows = np.unique(l2_normalize(rows), axis=0)
    alike = len(rows) == 1 and len(embeddings) >= _FEWEST
    if len(rows) >= _FEWEST:
        together = float(np.square(rows.sum(axis=0)).sum())
        alike = (together - len(rows)) / (len(rows) * (len(rows) - 1)) > _ALIKE
    if alike:
        log.warning(
            "the embeddings of %d images are nearly the same; unless the images are, too, %s", len(embeddings), CAUSES
        )
    return alike


def warn_near_chance(accuracy: float, pairs: int, what: str) -> bool:
    """Warn, and return True, if a verification accuracy, 0 .. 1, is close to chance."""
    return warn_of(what, [accuracy_doubt(accuracy, pairs)])


def warn_of(what: str, doubts: Iterable[str | None]) -> bool:
    """Warn of doubts about the result `what`, in one line with likely causes; return True where there are any."""
    found = [doubt for doubt in doubts if doubt]
    if found:
        log.warning("%s: %s: %s", what, "; ".join(found), CAUSES)
    return bool(found)


def accuracy_doubt(accuracy: float, pairs: int) -> str | None:
    """Return a doubt about a verification accuracy, 0 .. 1, that is close to chance."""
    if pairs >= _FEWEST_PAIRS and accuracy < _CHANCE:
        return f"accuracy {accuracy:.3f} is near chance (0.5)"
    return None


def threshold_doubt(thresholds: Iterable[float | None]) -> str | None:
    """Return a doubt about thresholds, cosines, that are at an end of their range; None stands for one that is unknown."""
    ends = [one for one in thresholds if one is not None and abs(one) >= _END]
    if ends:
        return f"a threshold at a cosine of {ends[0]:.4f} is at an end of its range (-1 .. 1)"
    return None


def rates_doubt(tar: Mapping[str, float | None], same: int) -> str | None:
    """Return a doubt about TARs by FAR that are close to chance, at which TAR is FAR, given `same` pairs of one identity.

    The largest FAR at which the TAR is known is looked at.
    """
    known = {float(far): rate for far, rate in tar.items() if rate is not None}
    if known and same >= _FEWEST_PAIRS and known[max(known)] < _ABOVE_CHANCE * max(known):
        return f"TAR {known[max(known)]:.4f} at FAR {max(known):g} is near chance"
    return None


def rank_doubt(rank: Mapping[str, float | None], identities: int, mated: int) -> str | None:
    """Return a doubt about rates by rank-k that are close to chance, k / identities, given the number of mated probes."""
    known = {int(k): rate for k, rate in rank.items() if rate is not None}
    if known and mated >= _FEWEST_PAIRS:
        k, chance = min(known), _ABOVE_CHANCE * min(known) / identities
        if known[k] < chance < 1:
            return f"rank-{k} {known[k]:.4f} among {identities} identities is near chance"
    return None


def label_doubt(is_same: np.ndarray) -> str | None:
    """Return a doubt about pairs that all have the same label, with its remedy: it has no other cause."""
    if not 0 < is_same.sum() < len(is_same):
        kind = "one identity" if is_same.all() else "different identities"
        return (
            f"all {len(is_same)} pairs have the label of {kind}, so the accuracy means nothing: check the list or script that "
            "made the set"
        )
    return None


def detail_doubts(detail: Detail) -> list[str]:
    """Return the doubts about a verification; none for pairs of one label, which `label_doubt` reports."""
    if label_doubt(detail.is_same):
        return []
    pairs, different = len(detail.is_same), detail.scores[~detail.is_same]
    thresholds = [1 - detail.verification.threshold / 2, *(rate.threshold for rate in detail.rates)]
    doubts = [
        accuracy_doubt(detail.verification.accuracy, pairs),
        threshold_doubt(thresholds) if pairs >= _FEWEST_PAIRS else None,
    ]
    if len(different) >= _FEWEST and different.mean() > _ALIKE:
        doubts.append(f"pairs of different identities have a mean cosine of {different.mean():.3f}")
    return [doubt for doubt in doubts if doubt]


def template_doubts(found: Mapping[str, Any]) -> list[str]:
    """Return the doubts about the results of `vargfacenet.eval.ijb.score_templates`."""
    doubts: list[str | None] = []
    if "1:1" in found:
        one = found["1:1"]
        doubts += [rates_doubt(one["tar"], one["same"]), threshold_doubt(one["threshold"].values())]
    for name, gallery in found.get("1:N", {}).items():
        if name != "mean":
            doubts.append(rank_doubt(gallery["rank"], gallery["identities"], gallery["mated"]))
            doubts.append(threshold_doubt(gallery["threshold"].values()))
    return list(dict.fromkeys(doubt for doubt in doubts if doubt))
