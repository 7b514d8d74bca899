"""Signs that a network was given images that it does not expect."""

import logging

import numpy as np

log = logging.getLogger(__name__)

CAUSES = (
    "likely causes: images scaled otherwise than the network expects (--input-mean, --input-std), RGB instead of BGR (--bgr), "
    "faces aligned otherwise, another layout of the input, or wrong labels"
)
_FEWEST, _SAMPLE = 8, 512  # embeddings that a judgement needs, and that it looks at
_ALIKE = 0.9  # mean cosine of different images, above which a network does not tell them apart
_CHANCE, _FEWEST_PAIRS = 0.65, 50


def warn_without_spread(embeddings: np.ndarray) -> bool:
    """Warns, and returns True, where nearly all embeddings (n, embedding_size) point the same way."""
    rows = np.asarray(embeddings[:: max(1, len(embeddings) // _SAMPLE)], np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else rows
    rows = np.unique(rows / np.where(lengths == 0, 1, lengths), axis=0) if len(rows) >= _FEWEST else rows
    alike = len(rows) == 1 and len(embeddings) >= _FEWEST
    if len(rows) >= _FEWEST:
        together = float(np.square(rows.sum(axis=0)).sum())
        alike = (together - len(rows)) / (len(rows) * (len(rows) - 1)) > _ALIKE
    if alike:
        log.warning(
            "the embeddings of %d images are nearly the same; unless the images are, %s", len(embeddings), CAUSES
        )
    return alike


def warn_near_chance(accuracy: float, pairs: int, what: str) -> bool:
    """Warns, and returns True, where a verification accuracy (0 .. 1) is hardly above that of a coin."""
    is_chance = pairs >= _FEWEST_PAIRS and accuracy < _CHANCE
    if is_chance:
        log.warning("%s: accuracy %.3f is near chance (0.5): %s", what, accuracy, CAUSES)
    return is_chance
