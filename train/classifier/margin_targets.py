"""A margin loss on a batch's cosines to the own identities, for a classifier in shards, on the arrays of any engine."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.symbols.margins import MarginLoss, Samples

Weigh = Callable[[Any], Any]  # how a loss weighs cosines to other identities: (N, C) -> (N, C)


class Target(NamedTuple):
    """The own identity's logit, and how the loss depends on it; arrays of the engine, each (N,).

    Attributes
    ----------
    logit
        With margin.
    slope, norm_slope
        Of the cosine with margin, over the cosine without and over the embedding's length.
    penalty, penalty_slope
        Added to the loss, and its slope over the embedding's length.
    """

    logit: Any
    slope: Any
    norm_slope: Any
    penalty: Any
    penalty_slope: Any


class MarginTargets(abc.ABC):
    """A margin loss with the numbers that it carries from update to update.

    A subclass computes on the arrays of its engine.

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
    operators
        MXNet's operators as functions of the engine's arrays, for the methods of `MarginLoss`.
    """

    operators: Any

    def __init__(self, margin: MarginLoss | None, scale: float, seed: int, device: Any) -> None:
        self._margin, self._scale, self._seed, self._device = margin, scale, seed, device
        states = {} if margin is None else margin.states
        self.averages = {name: self._on_device(np.full(1, value, np.float32)) for name, value in states.items()}
        self._samples: Samples | None = None

    def of(self, true: Any, norm: Any, teacher: Any | None, update: int) -> Target:
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
        margin, ones = self._margin, self.operators.ones_like(true)
        zeros = ones - ones
        if margin is None:
            return Target(true, ones, zeros, zeros, zeros)
        drawn = margin.draw(len(true), seed=self._seed, update=update)
        draw = None if drawn is None else self._on_device(drawn)
        samples = self._samples = Samples(self._leaf(true), self._leaf(norm), draw, teacher)
        for name, value in zip(self.averages, margin.observed(samples, operators=self.operators)):
            self.averages[name] = self._moved(self.averages[name], value, margin.state_momentum)
        state = tuple(self.averages.values())
        target, slope, norm_slope = self._with_slopes(
            samples, lambda: margin.target(samples, state, operators=self.operators)
        )
        penalty, _, penalty_slope = self._with_slopes(
            samples, lambda: margin.penalty(samples, operators=self.operators)
        )
        if penalty is None:
            penalty = penalty_slope = zeros
        return Target(self._scale * target, slope, norm_slope, penalty, penalty_slope)

    @property
    def weigh(self) -> Weigh | None:
        """The weighing of the last batch's cosines to other identities; None where the loss leaves them."""
        margin, samples = self._margin, self._samples
        if margin is None or samples is None or type(margin).others is MarginLoss.others:
            return None

        def weighed(cosines: Any) -> Any:
            there = Samples(self._constant(samples.cosine, cosines))
            state = tuple(self._constant(value, cosines) for value in self.averages.values())
            return margin.others(cosines, there, state, operators=self.operators)

        return weighed

    @abc.abstractmethod
    def _on_device(self, values: np.ndarray) -> Any:
        """Return float32 numbers as an array on the device."""

    @abc.abstractmethod
    def _leaf(self, values: Any) -> Any:
        """Return a copy of an array that gradients are taken over."""

    @abc.abstractmethod
    def _constant(self, values: Any, like: Any) -> Any:
        """Return an array without a gradient, on the device of another one."""

    @abc.abstractmethod
    def _moved(self, mean: Any, value: Any, momentum: float) -> Any:
        """Return a moving mean after an update; where `value` is NaN it stays as it is."""

    @abc.abstractmethod
    def _with_slopes(self, samples: Samples, compute: Callable[[], Any]) -> tuple[Any, Any, Any]:
        """Return what `compute` returns, (N,) or None, and its slopes over the cosine and the norm of `samples`."""
