"""Which identities of a shard take part in an update."""

import numpy as np

_SAMPLES = 1 << 61  # keeps the stream of samples apart from those of the data


def sample_size(count, rate):
    """Identities of a shard of `count` that take part, unless the batch has more of them (int, at least 1)."""
    return max(1, round(rate * count))


def sample_rows(count, rate, positives, *, seed, update, start):
    """The rows of a shard that take part in an update: all positives, and negatives drawn at random.

    [Partial FC, An et al., arXiv 2010.05222 and 2203.15565: positives plus random negatives]

    Parameters
    ----------
    count : int
        Rows of the shard.
    rate : float
        Share of them that takes part, above 0 and at most 1; at 1 all do.
    positives : int array
        Rows whose identities are in the batch; any order, repeats allowed.
    seed, update, start : int
        Decide the draw, and nothing else does: of the run, of the update, and the shard's first identity.

    Returns
    -------
    int32 array
        Sorted, each row once. As many as `sample_size` says, or all positives where these are more.
    """
    size = sample_size(count, rate)
    if size >= count:
        return np.arange(count, dtype=np.int32)
    positives = np.unique(positives)
    wanted = size - len(positives)
    if wanted <= 0:
        return positives.astype(np.int32)
    random = np.random.Generator(np.random.Philox(key=[seed, _SAMPLES + update], counter=[0, 0, 0, start]))
    # Drawn among the rows that are no positives, counted without these, then counted with them.
    negatives = random.choice(count - len(positives), wanted, replace=False, shuffle=False)
    negatives += np.searchsorted(positives - np.arange(len(positives)), negatives, side="right")
    return np.sort(np.concatenate([negatives, positives])).astype(np.int32)
