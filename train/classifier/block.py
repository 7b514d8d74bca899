"""Rows of a shard that are processed at once, and operators on arrays of many rows."""

from __future__ import annotations

import mxnet as mx
import numpy as np


class Block:
    """Rows of a shard that are processed at once, and which of the samples' true identities are among them.

    Attributes
    ----------
    exponentials
        exp(logit - largest of the block), (N, rows); `Shard.backward` overwrites it.
    factor
        Where logits are cosines, the inverse norms of the centres, (rows * centres, 1).
    nearest
        With several centres, the number of the nearest, (N, rows).
    slope
        Where the loss weighs cosines, the slope of what it makes of them, (N, rows).
    """

    exponentials: mx.nd.NDArray
    factor: mx.nd.NDArray
    nearest: mx.nd.NDArray
    slope: mx.nd.NDArray | None = None

    def __init__(
        self, bounds: tuple[int, int], here: np.ndarray, row: np.ndarray, rows: np.ndarray | None, device: mx.Context
    ) -> None:
        begin, end = bounds
        self._begin, self._end, self._device = begin, end, device
        self._rows = None if rows is None else mx.nd.array(rows[begin:end], ctx=device, dtype="int32")
        place = row if rows is None else np.searchsorted(rows, row)
        samples = np.flatnonzero(here & (place >= begin) & (place < end))
        self._count = len(here)
        self._samples = self._places = None
        if len(samples):
            self._samples = mx.nd.array(samples, ctx=device, dtype="int32")
            places = np.stack([samples, place[samples] - begin])
            self._places = mx.nd.array(places, ctx=device, dtype="int32")

    def __len__(self) -> int:
        return self._end - self._begin

    def read(self, array: mx.nd.NDArray, buffer: mx.nd.NDArray | None = None) -> mx.nd.NDArray:
        """Return its rows of a shard's array: a view, or, where the rows are sampled, a copy, in `buffer` where given."""
        if self._rows is None:
            return array[self._begin : self._end]
        return mx.nd.take(array, self._rows, out=None if buffer is None else buffer[: len(self)])

    def store(self, array: mx.nd.NDArray, values: mx.nd.NDArray) -> None:
        """Write back the rows that `read` returned and that were changed since."""
        if self._rows is not None:
            set_entries(array, self._rows.reshape((1, -1)), values)

    def write(self, logits: mx.nd.NDArray, values: mx.nd.NDArray) -> None:
        """Set the true identities' entries of (N, rows) to their samples' values, (N,)."""
        if self._samples is not None:
            set_entries(logits, self._places, mx.nd.take(values, self._samples))

    def only(self, values: mx.nd.NDArray, other: float) -> mx.nd.NDArray:
        """Return the values (N,) of the samples whose true identity is here, and `other` for the rest."""
        found = mx.nd.full(self._count, other, ctx=self._device)
        if self._samples is not None:
            set_entries(found, self._samples.reshape((1, -1)), mx.nd.take(values, self._samples))
        return found


def block_bounds(count: int, rows: np.ndarray | None, size: int) -> list[tuple[int, int]]:
    """Return the bounds of blocks of at most `size` rows, of `count` rows or of those that take part."""
    count = count if rows is None else len(rows)
    return [(begin, min(begin + size, count)) for begin in range(0, count, size)]


def row_sums(array: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return the sums of rows, (N, C) -> (N, 1), by a product with ones, which is much faster than MXNet's sum on CPUs."""
    return mx.nd.dot(array, mx.nd.ones((array.shape[1], 1), ctx=array.context))


def set_entries(array: mx.nd.NDArray, places: mx.nd.NDArray, values: mx.nd.NDArray) -> None:
    """Set entries of an array at places, int32 (dimensions, N), to values."""
    mx.nd._internal._scatter_set_nd(lhs=array, rhs=values, indices=places, shape=array.shape, out=array)
