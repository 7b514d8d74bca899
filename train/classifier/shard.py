"""One device's slice of the classifier: its logits, and the update of its rows.

Rows are processed in blocks, to bound memory. One array has the size of the batch times the identities; weights and
momentum have the size of the identities times the embedding; everything else has the size of a block.
"""

from __future__ import annotations

from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet.symbols.heads import Margin, margin_change

BLOCK = 4096  # rows
_NORM_EPS = 1e-10  # that of mx.sym.L2Normalization, which the head in the graph takes
_NEVER = -1e30  # a logit that has no weight


class Statistics(NamedTuple):
    """Numbers that shards exchange about each sample, all (N,).

    Attributes
    ----------
    largest, total
        The shard's largest logit, and its sum of exp(logit - largest).
    target, true
        The true identity's logit with and without margin, where it is in this shard, elsewhere 0.
    rival
        The largest logit of the other identities.
    """

    largest: mx.nd.NDArray
    total: mx.nd.NDArray
    target: mx.nd.NDArray
    true: mx.nd.NDArray
    rival: mx.nd.NDArray


class UpdateSettings(NamedTuple):
    """Stochastic gradient descent in one update: `rescale` multiplies gradients; a `clip` of 0 is no limit."""

    lr: float
    momentum: float
    weight_decay: float
    rescale: float
    clip: float


class Shard:
    """The classifier's rows of identities ``start .. stop - 1``, on one device.

    Parameters
    ----------
    start, stop
        Bounds of the identities, at least one.
    embedding_size
        Columns.
    device
        Where the rows are.
    margin
        Without it, plain softmax with a bias.

    Attributes
    ----------
    arrays, momenta
        ``weight`` (stop - start, embedding_size), with plain softmax ``bias`` (stop - start, 1), and their momenta.
    """

    def __init__(
        self, start: int, stop: int, embedding_size: int, device: mx.Context, margin: Margin | None = None
    ) -> None:
        self.start, self.stop, self.device, self._margin = start, stop, device, margin
        columns = {"weight": embedding_size, **({} if margin else {"bias": 1})}
        self.arrays = {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
        self.momenta = {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
        self._scale = margin.scale if margin else 1.0
        self._buffers: dict[str, mx.nd.NDArray] = {}  # arrays that each update needs again

    def __len__(self) -> int:
        return self.stop - self.start

    def forward(self, data: mx.nd.NDArray, label: np.ndarray, rows: np.ndarray | None = None) -> Statistics:
        """Compute the logits of a batch for the rows that take part.

        Parameters
        ----------
        data
            Embeddings (N, embedding_size) on this device; l2-normalized where there is a margin.
        label
            Identities (N,), here or in other shards.
        rows
            int32: rows that take part, sorted, those of the labels among them; all by default.
        """
        here = (label >= self.start) & (label < self.stop)
        row = np.where(here, label - self.start, 0)
        self._blocks = [_Block(bounds, here, row, rows, self.device) for bounds in _bounds(len(self), rows)]
        self._data = data * self._scale
        true, target, self._slope = self._true_logits(row, here)
        largest, totals, rivals = [], [], []
        for number, block in enumerate(self._blocks):
            weight = block.read(self.arrays["weight"], self._buffer("weight", BLOCK))
            logits = self._buffer(f"logits {number}", len(label), len(block))
            mx.nd.FullyConnected(
                self._data, weight, num_hidden=len(block), no_bias=True, flatten=False, out=logits
            )  # (N, rows of the block)
            if self._margin:
                squares = mx.nd.square(weight, out=self._buffer("product", BLOCK)[: len(block)])
                block.factor = mx.nd.rsqrt(_row_sums(squares) + _NORM_EPS)  # (rows, 1)
                mx.nd.broadcast_mul(logits, block.factor.reshape((1, -1)), out=logits)
            else:
                bias = block.read(self.arrays["bias"]).reshape((1, -1))
                mx.nd.broadcast_add(logits, bias, out=logits)
            block.write(logits, mx.nd.full(len(label), _NEVER, ctx=self.device))
            rivals.append(mx.nd.max(logits, axis=1))
            block.write(logits, target)
            largest.append(mx.nd.maximum(rivals[-1], block.only(target, _NEVER)))
            mx.nd.broadcast_sub(logits, largest[-1].reshape((-1, 1)), out=logits)
            mx.nd.exp(logits, out=logits)
            block.exponentials = logits
            totals.append(_row_sums(logits).reshape((-1,)))
        self._largest = mx.nd.stack(*largest)  # (blocks, N)
        most = mx.nd.max(self._largest, axis=0)
        shares = mx.nd.exp(mx.nd.broadcast_sub(self._largest, most.reshape((1, -1))))
        total = mx.nd.sum(mx.nd.stack(*totals) * shares, axis=0)
        return Statistics(most, total, target, true, mx.nd.max(mx.nd.stack(*rivals), axis=0))

    def backward(
        self, largest: mx.nd.NDArray, total: mx.nd.NDArray, change: mx.nd.NDArray, update: UpdateSettings
    ) -> mx.nd.NDArray:
        """Update the rows that took part.

        Parameters
        ----------
        largest, total, change
            On this device, (N,): of all shards together, the largest logit and the sum of exp(logit - largest); and the
            gradient to the true identity's logit.
        update
            The optimizer's settings in this update.

        Returns
        -------
        NDArray
            (N, embedding_size): this shard's part of the gradient of the summed loss to `data`.
        """
        shares = mx.nd.broadcast_div(
            mx.nd.exp(mx.nd.broadcast_sub(self._largest, largest.reshape((1, -1)))), total.reshape((1, -1))
        )  # (blocks, N)
        change = change * self._slope
        found = mx.nd.zeros_like(self._data)
        for number, block in enumerate(self._blocks):
            exponentials = block.exponentials
            gradient = mx.nd.broadcast_mul(exponentials, shares[number].reshape((-1, 1)), out=exponentials)
            block.write(gradient, change)  # to the logits, then over their scale
            weight = block.read(self.arrays["weight"], self._buffer("weight", BLOCK))
            if self._margin:
                mx.nd.broadcast_mul(gradient, block.factor.reshape((1, -1)), out=gradient)
            found += mx.nd.dot(gradient, weight)
            rows = mx.nd.dot(gradient, self._data, transpose_a=True, out=self._buffer("rows", BLOCK)[: len(block)])
            if self._margin:
                # The logit depends on the row's direction only: remove the gradient's component along the row.
                product = self._buffer("product", BLOCK)[: len(block)]
                along = _row_sums(mx.nd.elemwise_mul(rows, weight, out=product)) * mx.nd.square(block.factor)
                mx.nd.broadcast_mul(weight, along, out=product)
                mx.nd.elemwise_sub(rows, product, out=rows)
            else:
                # As MXNet's optimizer does, no weight decay on a bias.
                without_decay = update._replace(weight_decay=0.0)
                self._descend(block, "bias", _row_sums(gradient.T), block.read(self.arrays["bias"]), without_decay)
            self._descend(block, "weight", rows, weight, update)
        return found * self._scale

    def _true_logits(self, row: np.ndarray, here: np.ndarray) -> tuple[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray]:
        """Return the true identity's logit without and with margin, and the slope of the second over the first, (N,).

        Logits are 0 where the true identity is in another shard.
        """
        rows, here = mx.nd.array(row, ctx=self.device, dtype="int32"), mx.nd.array(here, ctx=self.device)
        weight = mx.nd.take(self.arrays["weight"], rows)  # (N, embedding_size)
        true = _row_sums(weight * self._data).reshape((-1,))
        if self._margin is None:
            true = (true + mx.nd.take(self.arrays["bias"], rows).reshape((-1,))) * here
            return true, true, mx.nd.ones_like(true)
        norms = mx.nd.rsqrt(_row_sums(mx.nd.square(weight)) + _NORM_EPS).reshape((-1,))
        cosine = true * norms / self._scale
        cosine.attach_grad()
        with mx.autograd.record():
            margin = self._margin
            target = cosine + margin_change(cosine, m1=margin.m1, m2=margin.m2, m3=margin.m3, operators=mx.nd)
        target.backward()
        return cosine.detach() * here * self._scale, target.detach() * here * self._scale, cosine.grad

    def _descend(
        self, block: _Block, name: str, gradient: mx.nd.NDArray, values: mx.nd.NDArray, update: UpdateSettings
    ) -> None:
        """Update the rows `values` of a block of an array, which have a gradient."""
        options = {"lr": update.lr, "wd": update.weight_decay, "rescale_grad": update.rescale}
        if update.clip:
            options["clip_gradient"] = update.clip
        if update.momentum:
            momenta = block.read(self.momenta[name])
            mx.nd.sgd_mom_update(values, gradient, momenta, momentum=update.momentum, out=values, **options)
            block.store(self.momenta[name], momenta)
        else:
            mx.nd.sgd_update(values, gradient, out=values, **options)
        block.store(self.arrays[name], values)

    def _buffer(self, use: str, rows: int, columns: int | None = None) -> mx.nd.NDArray:
        """Return an array to overwrite, the same one for the same use."""
        columns = columns or self.arrays["weight"].shape[1]
        kept = self._buffers.get(use)
        if kept is None or kept.shape != (rows, columns):
            kept = self._buffers[use] = mx.nd.empty((rows, columns), ctx=self.device)
        return kept


class _Block:
    """Rows of a shard that are processed at once, and which of the samples' true identities are among them.

    Attributes
    ----------
    exponentials
        exp(logit - largest of the block), (N, rows); `Shard.backward` overwrites it.
    factor
        With a margin, the inverse norms of the rows, (rows, 1).
    """

    exponentials: mx.nd.NDArray
    factor: mx.nd.NDArray

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
            _set(array, self._rows.reshape((1, -1)), values)

    def write(self, logits: mx.nd.NDArray, values: mx.nd.NDArray) -> None:
        """Set the true identities' entries of (N, rows) to their samples' values, (N,)."""
        if self._samples is not None:
            _set(logits, self._places, mx.nd.take(values, self._samples))

    def only(self, values: mx.nd.NDArray, other: float) -> mx.nd.NDArray:
        """Return the values (N,) of the samples whose true identity is here, and `other` for the rest."""
        found = mx.nd.full(self._count, other, ctx=self._device)
        if self._samples is not None:
            _set(found, self._samples.reshape((1, -1)), mx.nd.take(values, self._samples))
        return found


def _bounds(count: int, rows: np.ndarray | None) -> list[tuple[int, int]]:
    count = count if rows is None else len(rows)
    return [(begin, min(begin + BLOCK, count)) for begin in range(0, count, BLOCK)]


def _row_sums(array: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return the sums of rows, (N, C) -> (N, 1), by a product with ones, which is much faster than MXNet's sum on CPUs."""
    return mx.nd.dot(array, mx.nd.ones((array.shape[1], 1), ctx=array.context))


def _set(array: mx.nd.NDArray, places: mx.nd.NDArray, values: mx.nd.NDArray) -> None:
    mx.nd._internal._scatter_set_nd(lhs=array, rhs=values, indices=places, shape=array.shape, out=array)
