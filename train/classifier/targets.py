"""A margin loss on a batch's cosines to the own identities, for a classifier in shards."""

from __future__ import annotations

from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet.symbols.margins import MarginLoss, Samples
from vargfacenet.symbols.margins.adadistill import moved_centres
from vargfacenet.symbols.margins.moving_mean import moved
from vargfacenet.train.classifier.block import set_entries
from vargfacenet.train.classifier.shard import Shard, Weigh


class Target(NamedTuple):
    """The own identity's logit, and how the loss depends on it; NDArrays, each (N,).

    Attributes
    ----------
    logit
        With margin.
    slope, norm_slope
        Of the cosine with margin, over the cosine without and over the embedding's length.
    penalty, penalty_slope
        Added to the loss, and its slope over the embedding's length.
    """

    logit: mx.nd.NDArray
    slope: mx.nd.NDArray
    norm_slope: mx.nd.NDArray
    penalty: mx.nd.NDArray
    penalty_slope: mx.nd.NDArray


class Targets:
    """A margin loss with the numbers that it carries from update to update.

    Parameters
    ----------
    margin
        None for plain softmax.
    scale
        Multiplies the cosines.
    seed
        Of what the loss draws.
    device
        Where batches are.

    Attributes
    ----------
    averages
        The moving means of the loss, each (1,).
    """

    def __init__(self, margin: MarginLoss | None, scale: float, seed: int, device: mx.Context) -> None:
        self._margin, self._scale, self._seed, self._device = margin, scale, seed, device
        states = {} if margin is None else margin.states
        self.averages = {name: mx.nd.full(1, value, ctx=device) for name, value in states.items()}
        self._samples: Samples | None = None

    def of(self, true: mx.nd.NDArray, norm: mx.nd.NDArray, teacher: mx.nd.NDArray | None, update: int) -> Target:
        """Return the targets of an update, after which the moving means are those of it.

        Parameters
        ----------
        true
            (N,), cosine to the own identity; with plain softmax the logit.
        norm
            (N,), lengths of the embeddings.
        teacher
            (N,), cosine of the teacher's embedding to the own identity, for a loss that reads it.
        update
            Decides what is drawn, with the seed.
        """
        zeros = mx.nd.zeros_like(true)
        if self._margin is None:
            return Target(true, mx.nd.ones_like(true), zeros, zeros, zeros)
        draw = self._margin.draw(len(true), seed=self._seed, update=update)
        draw = None if draw is None else mx.nd.array(draw, ctx=self._device)
        true, norm = true.copy(), norm.copy()
        true.attach_grad()
        samples = self._samples = Samples(true, norm, draw, teacher)
        for name, value in zip(self.averages, self._margin.observed(samples, operators=mx.nd)):
            self.averages[name] = moved(self.averages[name], value, self._margin.state_momentum)
        norm.attach_grad()
        with mx.autograd.record():
            target = self._margin.target(samples, tuple(self.averages.values()), operators=mx.nd)
        target.backward()
        slope, norm_slope = true.grad.copy(), norm.grad.copy()
        norm.attach_grad()
        with mx.autograd.record():
            penalty = self._margin.penalty(samples, operators=mx.nd)
        if penalty is None:
            return Target(self._scale * target.detach(), slope, norm_slope, zeros, zeros)
        penalty.backward()
        return Target(self._scale * target.detach(), slope, norm_slope, penalty.detach(), norm.grad)

    @property
    def weigh(self) -> Weigh | None:
        """The weighing of the last batch's cosines to other identities; None where the loss leaves them."""
        margin, samples = self._margin, self._samples
        if margin is None or samples is None or type(margin).others is MarginLoss.others:
            return None

        def weighed(cosines: mx.nd.NDArray) -> mx.nd.NDArray:
            there = Samples(samples.cosine.detach().as_in_context(cosines.context))
            state = tuple(value.as_in_context(cosines.context) for value in self.averages.values())
            return margin.others(cosines, there, state, operators=mx.nd)

        return weighed


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
