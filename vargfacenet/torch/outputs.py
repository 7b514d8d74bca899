"""What an update tells the host, copied there without stopping the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class HostCopy:
    """A tensor on its way to the host. ``asnumpy()`` waits for it, as an NDArray's does."""

    def __init__(self, tensor: torch.Tensor):
        self._length, self._event = len(tensor), None
        self._values = tensor
        if tensor.device.type == "cuda":
            self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._values.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def __len__(self) -> int:
        return self._length

    def asnumpy(self) -> np.ndarray:
        """Return the numbers."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.numpy()


class Means:
    """The means of an update's outputs; behind them, how many workers found something that is not finite."""

    def __init__(self, row: torch.Tensor, names: list[str]):
        self._row, self._names = HostCopy(row), names

    def by_name(self) -> dict[str, Any]:
        """Return each output's mean, (1,), by name."""
        return {name: _Entry(self._row, place) for place, name in enumerate(self._names)}

    def first(self) -> float:
        """Return the mean loss."""
        return float(self._row.asnumpy()[0])

    def is_faulty(self) -> bool:
        """Return True where something is not finite. Waits for it."""
        return bool(self._row.asnumpy()[-1] > 0)


class _Entry:
    def __init__(self, row: HostCopy, place: int):
        self._row, self._place = row, place

    def asnumpy(self) -> np.ndarray:
        return self._row.asnumpy()[self._place : self._place + 1]
