"""The optimizers, which the graph's parameters and the sharded classifier have in common, and averages of weights.

Both engines compute these formulas. With the gradient g of the loss, averaged over the batch and clipped, the learning rate
lr of the update and its number t:

- `SGD`: m = momentum m - lr (g + weight_decay w), then w = w + m, as MXNet's ``sgd``.
- `AdamW`: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, then w = w - lr (m' / (sqrt(v') + epsilon) +
  weight_decay w) with m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) [Loshchilov and Hutter, Decoupled Weight Decay
  Regularization, ICLR 2019, arXiv 1711.05101, algorithm 2, with the weight decay multiplied by the learning rate].
- `Averaging`: a = d a + (1 - d) w with d = min(decay, (1 + t) / (10 + t)), after the update.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Union

import mxnet as mx
import numpy as np

from vargfacenet.train.engine import Schedule


class Averaging(NamedTuple):
    """An exponential moving average of weights and running statistics.

    Attributes
    ----------
    decay
        Share of the average that stays in an update, 0 .. 1; less in the first updates, in which the average begins.
    names
        Parameters and running statistics that are averaged.
    """

    decay: float
    names: frozenset[str]

    def weight(self, update: int) -> float:
        """Return the share of the new weights in the average of an update, 1 the first."""
        return 1 - min(self.decay, (1 + update) / (10 + update))


class SGD(NamedTuple):
    """Stochastic gradient descent with momentum.

    Attributes
    ----------
    schedule
        Learning rate of an update; 1 is the first.
    momentum, weight_decay
        The momentum's factor, 0 .. 1, and the factor of the weights that is added to their gradients.
    clip_gradient
        Largest absolute value of a gradient's entry, averaged over the batch; 0 for no limit.
    averaging
        The average that is kept of the weights; None for none.
    """

    schedule: Schedule
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_gradient: float = 0.0
    averaging: Averaging | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """Those of `slots` that are not always 0."""
        return self.slots if self.momentum else ()

    @property
    def slots(self) -> tuple[str, ...]:
        """Kinds of arrays that the optimizer keeps for each parameter, as a training state calls them."""
        return ("momentum",)


class AdamW(NamedTuple):
    """Adam with decoupled weight decay.

    Attributes
    ----------
    schedule, clip_gradient, averaging
        As of `SGD`.
    beta1, beta2, epsilon
        Shares of the mean gradient and of the mean square that stay in an update, and what is added to its root.
    weight_decay
        Factor of the weights by which, times the learning rate, they shrink.
    """

    schedule: Schedule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 5e-4
    clip_gradient: float = 0.0
    averaging: Averaging | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """Those of `slots` that are not always 0."""
        return self.slots

    @property
    def slots(self) -> tuple[str, ...]:
        """Kinds of arrays that the optimizer keeps for each parameter, as a training state calls them."""
        return ("mean", "variance")

    def kernel_options(self, lr: float, weight_decay: float, update: int) -> dict[str, float]:
        """Return the options by which MXNet's ``adamw_update``, which corrects no bias, makes an update of this optimizer."""
        # The operator computes 1 - beta in float32, which for 0.999 is off by 1e-5: the correction takes the same numbers.
        beta1, beta2 = float(np.float32(self.beta1)), float(np.float32(self.beta2))
        corrected = math.sqrt(1 - beta2**update)
        return {
            "lr": lr * corrected / (1 - beta1**update),
            "epsilon": self.epsilon * corrected,
            "wd": lr * weight_decay,
            "eta": 1.0,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "clip_gradient": self.clip_gradient or -1.0,
        }


Optimizer = Union[SGD, AdamW]
SLOTS = ("momentum", "mean", "variance")  # of all optimizers


@mx.optimizer.register
class VarGFaceNetAdamW(mx.optimizer.Optimizer):
    """`AdamW` as an optimizer of a Module.

    Parameters
    ----------
    rule
        Its numbers.
    made
        Object whose ``updates_made`` is the number of the update.
    """

    def __init__(self, rule: AdamW, made: Any, **options: Any) -> None:
        super().__init__(**options)
        self._rule, self._made = rule, made

    def create_state(self, index: int, weight: mx.nd.NDArray) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return the mean gradient and the mean square, both 0."""
        return mx.nd.zeros_like(weight), mx.nd.zeros_like(weight)

    def update(self, index: int, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: Any) -> None:
        """Update a parameter; the name is MXNet's."""
        options = self._rule.kernel_options(self._get_lr(index), self._get_wd(index), self._made.updates_made)
        mx.nd.contrib.adamw_update(weight, grad, *state, rescale_grad=self.rescale_grad, out=weight, **options)
