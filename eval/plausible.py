"""Warnings about embeddings that suggest that a network receives images it does not expect."""

from __future__ import annotations

import logging

import numpy as np

from vargfacenet.eval.protocols.normalize import l2_normalize

log = logging.getLogger(__name__)

CAUSES = (
    "likely causes: a wrong scaling of images (--input-mean, --input-std), RGB instead of BGR (--bgr), another alignment of "
    "the faces, another layout of the input, or wrong labels"
)
_FEWEST, _SAMPLE = 8, 512  # smallest and largest number of embeddings that are compared
_ALIKE = 0.9  # mean cosine of different images above which a network does not distinguish them
_CHANCE, _FEWEST_PAIRS = 0.65, 50


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
    is_chance = pairs >= _FEWEST_PAIRS and accuracy < _CHANCE
    if is_chance:
        log.warning("%s: accuracy %.3f is near chance (0.5): %s", what, accuracy, CAUSES)
    return is_chance
