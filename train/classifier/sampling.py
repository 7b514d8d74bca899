"""The identities of a shard that take part in an update."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_SAMPLES = 1 << 61  # keeps the stream of samples apart from those of the data


class Sampling(NamedTuple):
    """Selection of the identities that take part in the updates of a schedule.

    Attributes
    ----------
    rate
        Share of each shard's identities, above 0 .. 1: those of the batch, and others at random.
    seed
        Decides the sample, together with the update and the first identity of the shard.
    updates_before
        Updates of earlier schedules, which the stream of samples counts too.
    """

    rate: float = 1.0
    seed: int = 0
    updates_before: int = 0


def sample_size(count: int, rate: float) -> int:
    """Return how many identities of a shard of `count` take part, at least 1, unless the batch has more of them."""
    return max(1, round(rate * count))


def sample_rows(count: int, rate: float, positives: np.ndarray, *, seed: int, update: int, start: int) -> np.ndarray:
    """Return the rows of a shard that take part in an update: all positives, and negatives drawn at random.

    [Partial FC, An et al., arXiv 2010.05222 and 2203.15565: positives plus random negatives]

    Parameters
    ----------
    count
        Rows of the shard.
    rate
        Share of them that takes part, above 0 and at most 1; at 1 all do.
    positives
        Rows whose identities are in the batch; any order, repeats allowed.
    seed, update, start
        Seed of the run, number of the update, and first identity of the shard: nothing else decides the draw.

    Returns
    -------
    int32 array
        Sorted, each row once: `sample_size` rows, or all positives where these are more.
    """
    size = sample_size(count, rate)
    if size >= count:
        return np.arange(count, dtype=np.int32)
    positives = np.unique(positives)
    wanted = size - len(positives)
    if wanted <= 0:
        return positives.astype(np.int32)
    random = np.random.Generator(np.random.Philox(key=[seed, _SAMPLES + update], counter=[0, 0, 0, start]))
    # Drawn as numbers among the rows that are not positives, then turned into numbers among all rows.
    negatives = random.choice(count - len(positives), wanted, replace=False, shuffle=False)
    negatives += np.searchsorted(positives - np.arange(len(positives)), negatives, side="right")
    return np.sort(np.concatenate([negatives, positives])).astype(np.int32)
