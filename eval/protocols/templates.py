"""Templates: sets of images of one identity, from several media, that are compared as one face [IJB-B, IJB-C].

The embedding of a template is the L2-normalised mean over its media of the mean over the images of each medium: a video of
many frames has the weight of one photograph (Whitelam et al., "IARPA Janus Benchmark-B", CVPR workshops 2017).
InsightFace's evaluation sums over media, which gives the same direction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols.normalize import l2_normalize
from vargfacenet.eval.protocols.roc import FARS, threshold_at_far

_ROWS = 8192  # images pooled at a time
_TEMPLATES = 256  # templates whose pairs are scored at a time


class Templates(NamedTuple):
    """Numbers of templates, and their embeddings."""

    ids: np.ndarray  # int (t,), ascending
    embeddings: np.ndarray  # float32 (t, embedding_size), L2-normalised; 0 if the images cancel out


class RatesAt(NamedTuple):
    """Rates and thresholds by the text of a false accept rate, such as "1e-05"; None if the scores are too few for it."""

    rates: dict[str, float | None]
    thresholds: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class TemplateVerification:
    """TAR and threshold (a cosine) of pairs of templates at each FAR, see `RatesAt`."""

    same: int  # pairs of one identity
    different: int  # pairs of different identities
    tar: dict[str, float | None]
    threshold: dict[str, float | None]


def pool_templates(
    embeddings: np.ndarray,
    mirrored: np.ndarray | None,
    images: np.ndarray,
    templates: np.ndarray,
    media: np.ndarray,
    *,
    normalize_images: bool = False,
    weights: np.ndarray | None = None,
) -> Templates:
    """Pool the embeddings of images into those of templates.

    Parameters
    ----------
    embeddings
        Of the images, float (n, d), not normalised; may be a memory map.
    mirrored
        Of the mirrored images, float (n, d); they are added. None to leave them out.
    images, templates, media
        Row of the image, number of the template, and number of the medium within the template, int (r,) each.
    normalize_images
        L2-normalise the embedding of each image first. Otherwise the weight of an image is the norm of its embedding,
        which tends to grow with image quality.
    weights
        Weights of the images, float (n,), at least 0, such as the scores of a face detector.

    Raises
    ------
    DataError
        If an embedding is not finite.
    """
    order = np.lexsort((media, templates))
    images, templates, media = (np.asarray(column)[order] for column in (images, templates, media))
    new_template = _changes(templates)
    medium_starts = np.flatnonzero(new_template | _changes(media))
    sizes = np.diff(np.append(medium_starts, len(templates)))
    # A mean of means is a sum in which the weight of an image is the inverse number of images of its medium.
    row_weights = np.repeat(1.0 / sizes, sizes)
    if weights is not None:
        row_weights *= np.asarray(weights)[images]
    place = np.cumsum(new_template) - 1
    pooled = np.zeros((place[-1] + 1, embeddings.shape[1]))
    for begin in range(0, len(images), _ROWS):
        part = slice(begin, begin + _ROWS)
        rows = embeddings[images[part]].astype(np.float64)
        if mirrored is not None:
            rows += mirrored[images[part]]
        if not np.isfinite(rows).all():
            raise DataError("the embeddings hold NaN or infinity: the network is damaged")
        if normalize_images:
            rows = l2_normalize(rows)
        rows *= row_weights[part, None]
        starts = np.flatnonzero(_changes(place[part]))
        pooled[place[part][starts]] += np.add.reduceat(rows, starts)
    return Templates(templates[new_template], l2_normalize(pooled).astype(np.float32))


def pair_scores(
    embeddings: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Return the cosines of pairs, float32 (n,), by matrix products of blocks of templates with all their partners.

    `embeddings`, float32 (t, d), are L2-normalised; `first` and `second`, int (n,), are rows of them. `progress` is called
    with the number of pairs done since the last call.
    """
    order = np.argsort(first, kind="stable")
    ends = np.cumsum(np.bincount(first, minlength=len(embeddings)))
    scores = np.empty(len(order), np.float32)
    for begin in range(0, len(embeddings), _TEMPLATES):
        done, end = ends[begin - 1] if begin else 0, ends[min(begin + _TEMPLATES, len(ends)) - 1]
        if done == end:
            continue
        pairs = order[done:end]
        needed = np.zeros(len(embeddings), bool)
        needed[second[pairs]] = True
        column = np.cumsum(needed) - 1
        products = embeddings[begin : begin + _TEMPLATES] @ embeddings[needed].T
        scores[pairs] = products[first[pairs] - begin, column[second[pairs]]]
        if progress:
            progress(len(pairs))
    return scores


def verify_templates(scores: np.ndarray, is_same: np.ndarray, *, fars: Sequence[float] = FARS) -> TemplateVerification:
    """Return the rates of scored pairs, float (n,), whose labels are `is_same`, bool (n,), at FARs above 0 and below 1."""
    same, different = scores[is_same], scores[~is_same]
    return TemplateVerification(len(same), len(different), *rates_at(same, different, fars))


def rates_at(accept: np.ndarray, reject: np.ndarray, fars: Sequence[float]) -> RatesAt:
    """Return the share of the scores `accept` above the threshold at which a share `far` of the scores `reject` is."""
    thresholds = {f"{far:g}": threshold_at_far(reject, far) for far in fars}
    rates = {
        far: None if threshold is None or not len(accept) else float((accept > threshold).mean())
        for far, threshold in thresholds.items()
    }
    return RatesAt(rates, thresholds)


def _changes(column: np.ndarray) -> np.ndarray:
    """Return True (bool array) where a value is the first or differs from its predecessor."""
    return np.concatenate([[True], column[1:] != column[:-1]])
