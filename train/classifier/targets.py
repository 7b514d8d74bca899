"""Margin losses on MXNet's arrays, for a classifier in shards, and AdaDistill's centres there."""

from __future__ import annotations

from collections.abc import Callable

import mxnet as mx
import numpy as np

from vargfacenet.symbols.margins import Samples
from vargfacenet.symbols.margins.adadistill import moved_centres
from vargfacenet.symbols.margins.moving_mean import moved
from vargfacenet.train.classifier.block import set_entries
from vargfacenet.train.classifier.margin_targets import MarginTargets
from vargfacenet.train.classifier.shard import Shard

Slopes = tuple[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray]


class Targets(MarginTargets):
    """`MarginTargets` on NDArrays."""

    operators = mx.nd

    def _on_device(self, values: np.ndarray) -> mx.nd.NDArray:
        return mx.nd.array(values, ctx=self._device)

    def _leaf(self, values: mx.nd.NDArray) -> mx.nd.NDArray:
        return values.copy()

    def _constant(self, values: mx.nd.NDArray, like: mx.nd.NDArray) -> mx.nd.NDArray:
        return values.detach().as_in_context(like.context)

    def _moved(self, mean: mx.nd.NDArray, value: mx.nd.NDArray, momentum: float) -> mx.nd.NDArray:
        return moved(mean, value, momentum)

    def _with_slopes(self, samples: Samples, compute: Callable[[], mx.nd.NDArray | None]) -> Slopes:
        leaves = samples.cosine, samples.norm
        for leaf in leaves:
            leaf.attach_grad()
        with mx.autograd.record():
            value = compute()
        if value is not None:
            value.backward()
            value = value.detach()
        return value, leaves[0].grad.copy(), leaves[1].grad.copy()


def follow(
    shard: Shard, student: mx.nd.NDArray, teacher: mx.nd.NDArray, label: np.ndarray, *, weighted: bool = True
) -> None:
    """Move a shard's weights, as AdaDistill's centres, towards the teacher's embeddings of their identities.

    Parameters
    ----------
    shard
        The shard.
    student, teacher
        (N, embedding_size), l2-normalized, on any device.
    label
        int (N,), identities here or in other shards.
    weighted
        As of `vargfacenet.symbols.margins.adadistill.adadistill`.
    """
    here = (label >= shard.start) & (label < shard.stop)
    if not here.any():
        return
    weight, rows = shard.arrays["weight"], label[here] - shard.start
    own = mx.nd.take(weight, mx.nd.array(rows, ctx=shard.device, dtype="int32")).asnumpy()
    student, teacher = (array.asnumpy()[here] for array in (student, teacher))
    centres, found = moved_centres(own, rows, student, teacher, weighted=weighted)
    places = mx.nd.array(found.reshape((1, -1)), ctx=shard.device, dtype="int32")
    values = mx.nd.array(centres, ctx=shard.device)
    set_entries(weight, places, values)
