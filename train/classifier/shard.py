"""One device's slice of the classifier: its logits, and the update of its rows.

Rows are processed in blocks, to bound memory. One array has the size of the batch times the identities; weights and
momentum have the size of the identities times the embedding; everything else has the size of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet.train.classifier.block import Block, block_bounds, row_sums
from vargfacenet.train.classifier.margin_targets import Weigh
from vargfacenet.train.classifier.row_update import RowUpdate

BLOCK = 4096  # rows
_NORM_EPS = 1e-10  # that of mx.sym.L2Normalization, which the head in the graph takes
_NEVER = -1e30  # a logit that has no weight


class Statistics(NamedTuple):
    """Numbers that shards exchange about each sample, all (N,).

    Attributes
    ----------
    largest, total
        The shard's largest logit, and its sum of exp(logit - largest).
    rival
        The largest logit of the other identities, before the margin loss weighs them.
    """

    largest: mx.nd.NDArray
    total: mx.nd.NDArray
    rival: mx.nd.NDArray


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
    scale
        Logits are cosines times this; without it, those of plain softmax with a bias.
    centres
        Centres of an identity, of which the nearest counts.
    slots
        Kinds of arrays that the optimizer keeps.

    Attributes
    ----------
    arrays
        ``weight`` (stop - start, centres * embedding_size), with plain softmax ``bias`` (stop - start, 1). The centres of an
        identity are adjacent in its row.
    slots
        What the optimizer keeps for them, by kind and name.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        embedding_size: int,
        device: mx.Context,
        scale: float | None = None,
        centres: int = 1,
        slots: Sequence[str] = ("momentum",),
    ) -> None:
        self.start, self.stop, self.device = start, stop, device
        self._normalizes, self._scale, self._centres = scale is not None, scale or 1.0, centres
        columns = {"weight": centres * embedding_size, **({"bias": 1} if scale is None else {})}
        self.arrays = {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
        self.slots = {
            kind: {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
            for kind in slots
        }
        self._buffers: dict[str, mx.nd.NDArray] = {}  # arrays that each update needs again

    @property
    def by_kind(self) -> dict[str, dict[str, mx.nd.NDArray]]:
        """Weights and what the optimizer keeps for them, by the kinds of a training state and by name."""
        return {"arg": self.arrays, **self.slots}

    def __len__(self) -> int:
        return self.stop - self.start

    def true_cosines(self, data: mx.nd.NDArray, label: np.ndarray) -> mx.nd.NDArray:
        """Return each sample's cosine to its own identity, with plain softmax the logit: (N,); 0 where it is elsewhere.

        Arguments are those of `forward`.
        """
        row, here = (mx.nd.array(part, ctx=self.device) for part in self._places(label))
        row = row.astype("int32")
        weight = mx.nd.take(self.arrays["weight"], row).reshape((len(label) * self._centres, -1))
        data = mx.nd.repeat(data, self._centres, axis=0) if self._centres > 1 else data
        true = row_sums(weight * data)
        if self._normalizes:
            true = true * mx.nd.rsqrt(row_sums(mx.nd.square(weight)) + _NORM_EPS)
            true = mx.nd.max(true.reshape((len(label), self._centres)), axis=1)
        else:
            true = (true + mx.nd.take(self.arrays["bias"], row)).reshape((-1,))
        return true * here

    def forward(
        self,
        data: mx.nd.NDArray,
        label: np.ndarray,
        target: mx.nd.NDArray,
        rows: np.ndarray | None = None,
        weigh: Weigh | None = None,
    ) -> Statistics:
        """Compute the logits of a batch for the rows that take part.

        Parameters
        ----------
        data
            Embeddings (N, embedding_size) on this device; l2-normalized where logits are cosines.
        label
            Identities (N,), here or in other shards.
        target
            (N,), on this device: the logit of each sample's own identity, with margin.
        rows
            int32: rows that take part, sorted, those of the labels among them; all by default.
        weigh
            How the loss weighs cosines; those to the own identity do not count.
        """
        row, here = self._places(label)
        self._blocks = [Block(bounds, here, row, rows, self.device) for bounds in block_bounds(len(self), rows, BLOCK)]
        self._data = data * self._scale
        largest, totals, rivals = [], [], []
        for number, block in enumerate(self._blocks):
            logits = self._logits(number, block, len(label))
            never = mx.nd.full(len(label), _NEVER, ctx=self.device)
            block.write(logits, never)
            rivals.append(mx.nd.max(logits, axis=1))
            others = rivals[-1]
            if weigh is not None:
                self._weigh(block, logits, weigh)
                block.write(logits, never)
                others = mx.nd.max(logits, axis=1)
            block.write(logits, target)
            largest.append(mx.nd.maximum(others, block.only(target, _NEVER)))
            mx.nd.broadcast_sub(logits, largest[-1].reshape((-1, 1)), out=logits)
            mx.nd.exp(logits, out=logits)
            block.exponentials = logits
            totals.append(row_sums(logits).reshape((-1,)))
        self._largest = mx.nd.stack(*largest)  # (blocks, N)
        most = mx.nd.max(self._largest, axis=0)
        shares = mx.nd.exp(mx.nd.broadcast_sub(self._largest, most.reshape((1, -1))))
        total = mx.nd.sum(mx.nd.stack(*totals) * shares, axis=0)
        return Statistics(most, total, mx.nd.max(mx.nd.stack(*rivals), axis=0))

    def backward(
        self, largest: mx.nd.NDArray, total: mx.nd.NDArray, change: mx.nd.NDArray, update: RowUpdate
    ) -> mx.nd.NDArray:
        """Update the rows that took part.

        Parameters
        ----------
        largest, total, change
            On this device, (N,): of all shards together, the largest logit and the sum of exp(logit - largest); and the
            gradient to the true identity's logit before the margin.
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
        found = mx.nd.zeros_like(self._data)
        for number, block in enumerate(self._blocks):
            exponentials = block.exponentials
            gradient = mx.nd.broadcast_mul(exponentials, shares[number].reshape((-1, 1)), out=exponentials)
            if block.slope is not None:
                gradient *= block.slope
            block.write(gradient, change)  # to the logits, then over their scale
            weight = block.read(self.arrays["weight"], self._buffer("weight", BLOCK))
            by_centre = self._by_centre(weight)  # (rows * centres, embedding_size)
            if self._centres > 1:
                nearest = mx.nd.one_hot(block.nearest, self._centres)  # (N, rows, centres)
                gradient = mx.nd.broadcast_mul(nearest, gradient.expand_dims(2)).reshape((len(gradient), -1))
            if self._normalizes:
                mx.nd.broadcast_mul(gradient, block.factor.reshape((1, -1)), out=gradient)
            found += mx.nd.dot(gradient, by_centre)
            rows = self._by_centre(self._buffer("rows", BLOCK)[: len(block)])
            mx.nd.dot(gradient, self._data, transpose_a=True, out=rows)
            if self._normalizes:
                # The logit depends on the row's direction only: remove the gradient's component along the row.
                product = self._by_centre(self._buffer("product", BLOCK)[: len(block)])
                along = row_sums(mx.nd.elemwise_mul(rows, by_centre, out=product)) * mx.nd.square(block.factor)
                mx.nd.broadcast_mul(by_centre, along, out=product)
                mx.nd.elemwise_sub(rows, product, out=rows)
            else:
                self._descend(block, "bias", row_sums(gradient.T), block.read(self.arrays["bias"]), update)
            self._descend(block, "weight", rows.reshape(weight.shape), weight, update)
        return found * self._scale

    def _places(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the row of each sample's identity, and whether it is in this shard, (N,)."""
        here = (label >= self.start) & (label < self.stop)
        return np.where(here, label - self.start, 0), here

    def _logits(self, number: int, block: Block, count: int) -> mx.nd.NDArray:
        """Return the logits of a block's identities, without margin: (N, rows), in an array that each update overwrites."""
        weight = self._by_centre(block.read(self.arrays["weight"], self._buffer("weight", BLOCK)))
        logits = self._buffer(f"logits {number}", count, len(weight))
        mx.nd.FullyConnected(self._data, weight, num_hidden=len(weight), no_bias=True, flatten=False, out=logits)
        if not self._normalizes:
            bias = block.read(self.arrays["bias"]).reshape((1, -1))
            return mx.nd.broadcast_add(logits, bias, out=logits)
        squares = mx.nd.square(weight, out=self._by_centre(self._buffer("product", BLOCK)[: len(block)]))
        block.factor = mx.nd.rsqrt(row_sums(squares) + _NORM_EPS)  # (rows * centres, 1)
        mx.nd.broadcast_mul(logits, block.factor.reshape((1, -1)), out=logits)
        if self._centres == 1:
            return logits
        every = logits.reshape((count, len(block), self._centres))
        block.nearest = mx.nd.argmax(every, axis=2)  # (N, rows)
        return mx.nd.max(every, axis=2)

    def _weigh(self, block: Block, logits: mx.nd.NDArray, weigh: Weigh) -> None:
        """Replace logits by those that the loss makes of them, and keep the slope of that."""
        cosines = logits / self._scale
        cosines.attach_grad()
        with mx.autograd.record():
            weighed = weigh(cosines)
        weighed.backward()
        block.slope = cosines.grad
        logits[:] = weighed.detach() * self._scale

    def _by_centre(self, rows: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return a view of rows (n, centres * embedding_size) with a row for each centre: (n * centres, embedding_size)."""
        return rows if self._centres == 1 else rows.reshape((len(rows) * self._centres, -1))

    def _descend(
        self, block: Block, name: str, gradient: mx.nd.NDArray, values: mx.nd.NDArray, update: RowUpdate
    ) -> None:
        """Update the rows `values` of a block of an array, which have a gradient."""
        slots = [block.read(arrays[name]) for arrays in self.slots.values()]
        update.apply(values, gradient, slots, decays=name != "bias")  # as MXNet's optimizers do
        for arrays, kept in zip(self.slots.values(), slots):
            block.store(arrays[name], kept)
        block.store(self.arrays[name], values)

    def _buffer(self, use: str, rows: int, columns: int | None = None) -> mx.nd.NDArray:
        """Return an array to overwrite, the same one for the same use."""
        columns = columns or self.arrays["weight"].shape[1]
        kept = self._buffers.get(use)
        if kept is None or kept.shape != (rows, columns):
            kept = self._buffers[use] = mx.nd.empty((rows, columns), ctx=self.device)
        return kept
