"""An update of rows of the classifier by the optimizer of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mxnet as mx

from vargfacenet.train.optimizer import AdamW, Optimizer


class RowUpdate(NamedTuple):
    """One update of rows: its optimizer, learning rate and number (1 the first); `rescale` multiplies gradients."""

    optimizer: Optimizer
    rescale: float
    lr: float = 0.0
    number: int = 1

    def apply(
        self, values: mx.nd.NDArray, gradient: mx.nd.NDArray, slots: Sequence[mx.nd.NDArray], *, decays: bool = True
    ) -> None:
        """Change rows in place, with what the optimizer keeps for them in the order of its `slots`."""
        rule, decay = self.optimizer, self.optimizer.weight_decay if decays else 0.0
        if isinstance(rule, AdamW):
            options = rule.kernel_options(self.lr, decay, self.number)
            mx.nd.contrib.adamw_update(values, gradient, *slots, rescale_grad=self.rescale, out=values, **options)
            return
        options = {"lr": self.lr, "wd": decay, "rescale_grad": self.rescale}
        if rule.clip_gradient:
            options["clip_gradient"] = rule.clip_gradient
        if rule.momentum:
            mx.nd.sgd_mom_update(values, gradient, *slots, momentum=rule.momentum, out=values, **options)
        else:
            mx.nd.sgd_update(values, gradient, out=values, **options)
