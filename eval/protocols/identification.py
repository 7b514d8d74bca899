"""Identification of probes in a gallery of known identities: rank-k, and TPIR at FPIR.

A probe is mated if its identity is in the gallery. Its rank is one plus the number of other identities that score at least
as high as its own: of ties the worst rank counts, and scores within 5e-7, which float32 does not distinguish, are ties.

A non-mated probe raises a false alarm if its highest score is strictly above the threshold. FPIR is the share of non-mated
probes that raise one. TPIR is the share of mated probes whose own identity is at rank 1 and strictly above the threshold:
1 - FNIR of NIST's FRVT 1:N (NISTIR 8271) with one candidate, and the open-set measure of IJB-B and IJB-C (Maze et al., ICB
2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols.normalize import l2_normalize
from vargfacenet.eval.protocols.templates import pool_templates, rates_at
from vargfacenet.options import unknown

RANKS = (1, 5, 10)
FPIRS = (1e-1, 1e-2, 1e-3)
MEAN, NEAREST = ENTRIES = ("mean", "nearest")
_TIE = np.float32(5e-7)
_SCORES = 1 << 24  # scores held at a time: 64 MiB of float32


class Gallery(NamedTuple):
    """Entries of a gallery."""

    embeddings: np.ndarray  # float32 (n, d), L2-normalised
    identities: np.ndarray  # (n,): numbers or names


class SearchResult(NamedTuple):
    """Result of a search, by probe, and the number of identities in the gallery."""

    rank: np.ndarray  # int64, from 1; 0 for a non-mated probe
    score: np.ndarray  # float32: of its own identity; for a non-mated probe the highest
    identities: int


@dataclasses.dataclass(frozen=True)
class Identification:
    """Rates of a search."""

    identities: int  # in the gallery
    mated: int  # probes
    non_mated: int  # probes
    rank: dict[str, float | None]  # share of mated probes by rank-k, such as "5"; None if there is no mated probe
    tpir: dict[str, float | None]  # by FPIR, such as "0.01"; None if the probes are too few for it
    threshold: dict[str, float | None]  # by FPIR, likewise


def gallery_entries(embeddings: np.ndarray, identities: ArrayLike, by: str = MEAN) -> Gallery:
    """Return the entries of a gallery with several images per identity.

    Parameters
    ----------
    embeddings
        Of the images, image and mirror added, float (n, d).
    identities
        Of the images, numbers or names (n,).
    by
        ``mean``: one entry per identity, the L2-normalised mean of the L2-normalised embeddings of its images.
        ``nearest``: one entry per image; in a search, the nearest image of an identity counts.

    Raises
    ------
    SettingError
        If `by` is unknown.
    DataError
        If an embedding is not finite.
    """
    if by not in ENTRIES:
        raise unknown("kind of gallery", by, ENTRIES)
    names, index = np.unique(identities, return_inverse=True)
    each = np.arange(len(index))
    if by == NEAREST:
        return Gallery(l2_normalize(np.asarray(embeddings, np.float32)), np.asarray(identities))
    return Gallery(pool_templates(embeddings, None, each, index, each, normalize_images=True).embeddings, names)


def search(
    probes: np.ndarray,
    probe_identities: ArrayLike,
    gallery: np.ndarray,
    gallery_identities: ArrayLike,
    *,
    progress: Callable[[int], object] | None = None,
) -> SearchResult:
    """Compare probes with all entries of a gallery; the score of an identity is that of its nearest entry.

    Parameters
    ----------
    probes, gallery
        Embeddings, float (p, d) and (g, d). A score is their dot product in float32: the cosine if they are L2-normalised.
    probe_identities, gallery_identities
        Numbers or names, (p,) and (g,).
    progress
        Called with the number of probes done since the last call.

    Raises
    ------
    DataError
        If probes or gallery are empty, differ in embedding size, or hold a number that is not finite.
    """
    probes, gallery = np.asarray(probes, np.float32), np.asarray(gallery, np.float32)
    for name, embeddings in (("probes", probes), ("gallery", gallery)):
        if not embeddings.size:
            raise DataError(f"{name}: no faces; a search needs at least one probe and one entry in the gallery")
        if not np.isfinite(embeddings).all():
            raise DataError(f"the embeddings of the {name} hold NaN or infinity: the network is damaged")
    if probes.shape[1] != gallery.shape[1]:
        raise DataError(
            f"embeddings of the probes have {probes.shape[1]} numbers, those of the gallery {gallery.shape[1]}: expected "
            "both from the same network"
        )
    identities, index = np.unique(gallery_identities, return_inverse=True)
    order = np.argsort(index, kind="stable")
    gallery, starts = gallery[order], np.searchsorted(index[order], np.arange(len(identities)))
    own = np.minimum(np.searchsorted(identities, probe_identities), len(identities) - 1)
    mated = identities[own] == np.asarray(probe_identities)
    rank, score = np.zeros(len(probes), np.int64), np.empty(len(probes), np.float32)
    step = max(1, _SCORES // len(gallery))
    for begin in range(0, len(probes), step):
        part = slice(begin, begin + step)
        scores = probes[part] @ gallery.T  # (step, entries)
        if len(identities) < len(gallery):
            scores = np.maximum.reduceat(scores, starts, axis=1)  # (step, identities)
        mates = np.take_along_axis(scores, own[part, None], axis=1)
        rank[part] = np.where(mated[part], np.count_nonzero(scores >= mates - _TIE, axis=1), 0)
        score[part] = np.where(mated[part], mates[:, 0], scores.max(axis=1))
        if progress:
            progress(len(scores))
    return SearchResult(rank, score, len(identities))


def identification(
    found: SearchResult, *, ranks: Sequence[int] = RANKS, fpirs: Sequence[float] = FPIRS
) -> Identification:
    """Return the rates of a search at ranks from 1 on, and at FPIRs above 0 and below 1."""
    mated = found.rank > 0
    first = np.where(found.rank == 1, found.score, -np.inf)[mated]
    others = found.score[~mated]
    curve = cumulative_matches(found, max(ranks))
    rank = {str(rank): None if curve is None else float(curve[rank - 1]) for rank in ranks}
    return Identification(found.identities, len(first), len(others), rank, *rates_at(first, others, fpirs))


def cumulative_matches(found: SearchResult, upto: int) -> np.ndarray | None:
    """Return the cumulative match characteristic for ranks 1 .. `upto`, float64 (upto,); None if no probe is mated."""
    ranks = found.rank[found.rank > 0]
    if not len(ranks):
        return None
    return np.cumsum(np.bincount(np.minimum(ranks, upto + 1), minlength=upto + 2)[1 : upto + 1]) / len(ranks)


class MeanRates(NamedTuple):
    """Means over galleries; None if a gallery has no such rate."""

    rank: dict[str, float | None]
    tpir: dict[str, float | None]


def mean_rates(results: Sequence[Identification]) -> MeanRates:
    """Return the means of the rates of several galleries."""
    return MeanRates(_means([one.rank for one in results]), _means([one.tpir for one in results]))


def _means(each: list[dict[str, float | None]]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for key in each[0]:
        known = [rate for rate in (rates[key] for rates in each) if rate is not None]
        means[key] = float(np.mean(known)) if len(known) == len(each) else None
    return means
