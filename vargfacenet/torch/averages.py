"""The moving average of a module's weights and running statistics, in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vargfacenet.torch.graph import SymbolModule
from vargfacenet.train.optimizer import Averaging


class Averages:
    """Averages by name, on the module's device.

    Parameters
    ----------
    averaging
        Names and decay.
    module
        The graph with its parameters.

    Attributes
    ----------
    values
        The averages.
    statistics
        Names of those that are running statistics.
    """

    def __init__(self, averaging: Averaging, module: SymbolModule) -> None:
        names = [*module.parameter_names, *module.statistic_names]
        self._averaging = averaging
        self._now = {name: getattr(module, name).detach() for name in names if name in averaging.names}
        self.values = {name: value.clone() for name, value in self._now.items()}
        self.statistics = [name for name in module.statistic_names if name in self._now]

    def begin(self) -> None:
        """Begin with the weights as they are."""
        torch._foreach_copy_(list(self.values.values()), list(self._now.values()))

    def move(self, update: int, skip: torch.Tensor) -> None:
        """Move towards the weights after an update, 1 the first; where `skip` is not 0 everything stays as it is."""
        values = list(self.values.values())
        steps = torch._foreach_sub(list(self._now.values()), values)
        torch._foreach_mul_(steps, self._averaging.weight(update) * (skip == 0).float())
        torch._foreach_add_(values, steps)

    def load(self, values: Mapping[str, torch.Tensor]) -> None:
        """Take saved averages."""
        for name, value in values.items():
            if name in self.values:
                self.values[name].copy_(value)
