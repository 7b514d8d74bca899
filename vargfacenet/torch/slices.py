"""Running statistics of the slices of a batch, each of which has its own, as each device has in MXNet."""

from __future__ import annotations

import torch

from vargfacenet.torch.graph import SymbolModule


class SliceStatistics:
    """The running statistics of each slice between its turns; the module holds those of the slice that is computed.

    Parameters
    ----------
    module
        The graph.
    count
        Slices.
    """

    def __init__(self, module: SymbolModule, count: int) -> None:
        self._current = [getattr(module, name) for name in module.statistic_names]
        self._own = [[value.clone() for value in self._current] for _ in range(count if self._current else 0)]

    def enter(self, number: int) -> None:
        """Give the module the statistics of a slice."""
        if self._own:
            torch._foreach_copy_(self._current, self._own[number])

    def leave(self, number: int) -> None:
        """Take the statistics of a slice from the module."""
        if self._own:
            torch._foreach_copy_(self._own[number], self._current)

    def average(self) -> None:
        """Give the module the mean over slices."""
        if self._own:
            torch._foreach_zero_(self._current)
            for own in self._own:
                torch._foreach_add_(self._current, own, alpha=1 / len(self._own))

    def spread(self) -> None:
        """Give every slice the module's statistics."""
        for number in range(len(self._own)):
            self.leave(number)
