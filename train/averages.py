"""The moving average of a Module's weights and running statistics."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from vargfacenet.train.engine import Arrays
from vargfacenet.train.optimizer import Averaging


class Averages:
    """Averages by name, on the first device.

    Parameters
    ----------
    averaging
        Names and decay.
    module
        Bound, with its parameters.

    Attributes
    ----------
    values
        The averages.
    statistics
        Names of those that are running statistics, which each device and worker has by itself.
    """

    def __init__(self, averaging: Averaging, module: Any) -> None:
        group = module._exec_group
        arrays = {**dict(zip(group.param_names, group.param_arrays)), **dict(zip(group.aux_names, group.aux_arrays))}
        self._averaging = averaging
        self._arrays = {name: on_devices for name, on_devices in arrays.items() if name in averaging.names}
        self.statistics = sorted(set(group.aux_names) & set(self._arrays))
        self.values: Arrays = {}
        self.begin()

    def begin(self) -> None:
        """Begin with the weights as they are."""
        self.values = {name: self._now(name).copy() for name in self._arrays}

    def move(self, update: int) -> None:
        """Move towards the weights after an update, 1 the first."""
        weight = self._averaging.weight(update)
        for name, value in self.values.items():
            value += weight * (self._now(name) - value)

    def load(self, values: Arrays) -> None:
        """Take saved averages."""
        for name, value in values.items():
            if name in self.values:
                value.copyto(self.values[name])

    def saved(self) -> Arrays:
        """Return copies on the CPU."""
        return {name: value.copyto(mx.cpu()) for name, value in self.values.items()}

    def _now(self, name: str) -> mx.nd.NDArray:
        """Return an array as it is; running statistics are the mean over devices."""
        first, *others = self._arrays[name]
        if name not in self.statistics or not others:
            return first
        return sum((one.as_in_context(first.context) for one in others), first) / (1 + len(others))
