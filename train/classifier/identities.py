"""The division of a classifier's identities among shards, and the weights that they begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vargfacenet.data.layout import MOST_IDENTITIES
from vargfacenet.errors import SettingError
from vargfacenet.symbols.heads import Margin
from vargfacenet.symbols.margins import CosineHead
from vargfacenet.symbols.margins.combined import Combined

PART = 65536  # rows of the classifier in one array of a saved state
_DRAWN = 4096  # rows whose initial weights are drawn at once


def shard_bounds(num_identities: int, count: int) -> list[int]:
    """Return the first identity of each of `count` shards, followed by the number of identities.

    SettingError where there are fewer identities than shards, or more than a label can name.
    """
    if not count <= num_identities <= MOST_IDENTITIES:
        raise SettingError(
            f"{num_identities} identities in {count} shard(s): expected at least one for each, and at most "
            f"{MOST_IDENTITIES}, whose numbers float32 labels hold"
        )
    return [number * num_identities // count for number in range(count + 1)]


def part_bounds(num_identities: int) -> Iterator[tuple[int, int, int]]:
    """Yield number and bounds of the parts in which a state holds the rows of all identities."""
    for part, begin in enumerate(range(0, num_identities, PART)):
        yield part, begin, min(begin + PART, num_identities)


def drawn_rows(
    bounds: tuple[int, int], columns: int, num_identities: int, seeds: Sequence[int]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Draw weights like those of the network: Xavier, gaussian, by fan-out, magnitude 2.

    Yields the places in a shard, and the rows for them, float32. They depend on the seeds alone, not on the shards.

    Parameters
    ----------
    bounds
        First identity of the shard, and the one after its last.
    columns
        Numbers in a row.
    num_identities
        Identities of all shards.
    seeds
        Decide the numbers.
    """
    (start, stop), deviation = bounds, np.float32(np.sqrt(2 / num_identities))
    for part in range(start // _DRAWN, (stop - 1) // _DRAWN + 1):
        random = np.random.default_rng(np.random.SeedSequence((*seeds, part)))
        drawn = random.standard_normal((_DRAWN, columns), np.float32)
        drawn *= deviation
        begin, end = max(start, part * _DRAWN), min(stop, (part + 1) * _DRAWN)
        yield slice(begin - start, end - start), drawn[begin - part * _DRAWN : end - part * _DRAWN]


def cosine_head(margin: Margin | CosineHead | None) -> CosineHead | None:
    """Return a margin with its scale as a head with a margin loss; a head, and None for plain softmax, as they are."""
    if isinstance(margin, Margin):
        return CosineHead(Combined(margin.m1, margin.m2, margin.m3), margin.scale)
    return margin
