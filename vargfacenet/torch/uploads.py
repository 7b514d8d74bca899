"""From a batch of the data iterator to tensors on a device, without waiting for the copies."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import torch

from vargfacenet.data.memory import numpy_view
from vargfacenet.torch.transfers import CopyEnd, is_gpu, pinned, to_device

_RING = 3  # buffers of pinned memory: one that is filled, one that is copied, one to spare


class Uploader:
    """Bring batches to a device: images as bytes where they are whole numbers, labels and embeddings as they are.

    Parameters
    ----------
    device
        On the CPU the tensors share the memory of the batch's arrays, which must live as long.
    whole
        Images hold whole numbers in 0..255, as they do unless faces are mixed: a quarter of the bytes crosses the bus.
    channels_last
        The memory layout of images on the device.
    """

    def __init__(self, device: torch.device, *, whole: bool = True, channels_last: bool = False) -> None:
        self._device, self._whole = device, whole
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._buffers: list[tuple[torch.Tensor, CopyEnd]] = []
        self._turn = 0

    def images(self, batch: mx.io.DataBatch) -> torch.Tensor:
        """Return the images of a batch, (N, 3, 112, 112), float32, 0..255; a second call gives the same tensor."""
        kept = getattr(batch, "uploaded", None)
        if kept is None:
            values = as_tensor(batch.data[0])
            on_device = self._from_pinned(values) if is_gpu(self._device) else values
            kept = batch.uploaded = on_device.to(torch.float32).contiguous(memory_format=self._layout)
        return kept

    def other(self, array: Any) -> torch.Tensor:
        """Return labels or embeddings, an NDArray or a tensor, on the device."""
        return to_device(as_tensor(array), self._device)

    def _from_pinned(self, values: torch.Tensor) -> torch.Tensor:
        dtype = torch.uint8 if self._whole else torch.float32
        while len(self._buffers) < _RING:
            self._buffers.append((pinned(values.shape, dtype), CopyEnd()))
        buffer, copied = self._buffers[self._turn]
        self._turn = (self._turn + 1) % _RING
        copied.wait()  # of three batches ago
        buffer.copy_(values)
        uploaded = buffer.to(self._device, non_blocking=True)
        copied.mark(self._device)
        return uploaded


def as_tensor(array: Any) -> torch.Tensor:
    """Return an NDArray on the CPU as a tensor that shares its memory; a tensor as it is."""
    if isinstance(array, torch.Tensor):
        return array
    if array.context.device_type != "cpu" or array.dtype.__name__ != "float32":
        return torch.from_numpy(array.asnumpy())
    array.wait_to_read()
    return torch.from_numpy(numpy_view(array))
