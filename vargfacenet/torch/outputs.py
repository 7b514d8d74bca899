"""The results of an update, copied to the host without stopping the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from vargfacenet.torch.transfers import CopyEnd, is_gpu, pinned
from vargfacenet.train.engine import NotFinite, StepResult


class HostCopy:
    """A tensor on its way to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._end: CopyEnd | None = None
        self._values = tensor
        if is_gpu(tensor.device):
            self._values = pinned(tensor.shape, tensor.dtype)
            self._values.copy_(tensor, non_blocking=True)
            self._end = CopyEnd()
            self._end.mark(tensor.device)

    def numpy(self) -> np.ndarray:
        """Wait for the numbers, and return them."""
        if self._end is not None:
            self._end.wait()
        return self._values.numpy()


class Fault(NamedTuple):
    """The finite check of an update, on the device.

    Attributes
    ----------
    found
        0 where the loss and all gradients are finite.
    names, sizes
        Parameters in the order of the graph, and the lengths of their gradients, (parameters,).
    """

    found: torch.Tensor
    names: Sequence[str]
    sizes: torch.Tensor

    def gradients(self) -> list[str]:
        """Wait, and return the parameters whose gradients are not finite."""
        finite = torch.isfinite(self.sizes.square()).tolist()
        return [name for name, fine in zip(self.names, finite) if not fine]


class PendingStep:
    """An update that a device computes, or has computed.

    Parameters
    ----------
    outputs
        Losses and measures of each image, the loss first, each (N,).
    embedding
        The embeddings, (N, embedding_size), where the graph gives them.
    labels
        The labels of the batch.
    fault
        The finite check.
    """

    def __init__(
        self,
        outputs: Mapping[str, torch.Tensor],
        embedding: torch.Tensor | None,
        labels: list[np.ndarray],
        fault: Fault,
    ) -> None:
        self._outputs = {name: HostCopy(value) for name, value in outputs.items()}
        self._embedding = None if embedding is None else HostCopy(embedding)
        self._labels, self._fault, self._found = labels, fault, HostCopy(fault.found)

    def result(self) -> StepResult:
        """Wait for the update, and return its results; `NotFinite` where it was not made."""
        outputs = {name: copy.numpy() for name, copy in self._outputs.items()}
        if self._found.numpy() > 0:
            loss = float(next(iter(outputs.values())).mean())
            raise NotFinite(None if np.isfinite(loss) else loss, self._fault.gradients())
        embedding = None if self._embedding is None else self._embedding.numpy()
        return StepResult(outputs, embedding, self._labels)
