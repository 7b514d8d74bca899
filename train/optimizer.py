"""The settings of the optimizer, which the graph's parameters and the sharded classifier have in common."""

from __future__ import annotations

from typing import NamedTuple

from vargfacenet.train.engine import Schedule


class SGD(NamedTuple):
    """Stochastic gradient descent with momentum, as MXNet's ``sgd`` computes it.

    Attributes
    ----------
    schedule
        Learning rate of an update; 1 is the first.
    momentum, weight_decay
        The momentum's factor, 0 .. 1, and the factor of the weights that is added to their gradients.
    clip_gradient
        Largest absolute value of a gradient's entry, averaged over the batch; 0 for no limit.
    """

    schedule: Schedule
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_gradient: float = 0.0
