"""Copies between the host and a GPU that nothing waits for."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def is_gpu(device: torch.device) -> bool:
    """Return True where tensors of a device are not in the memory of the host."""
    return device.type != "cpu"


def pinned(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Return memory of the host that a GPU reads and writes by itself, uninitialised."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device, copied from pinned memory to a GPU, so that nothing waits; on a CPU the same one."""
    if is_gpu(device) and not is_gpu(tensor.device):
        tensor = pinned(tensor.shape, tensor.dtype).copy_(tensor)
    return tensor.to(device, non_blocking=True)


class CopyEnd:
    """The end of all copies that a device was given before `mark`."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event()

    def mark(self, device: torch.device) -> None:
        """Take what the device was given so far."""
        # By default an event is one of the current device, which is the first GPU also in a run on another one.
        self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Wait for the copies; return at once where nothing was marked."""
        self._event.synchronize()
