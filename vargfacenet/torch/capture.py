"""CUDA graphs: the passes of a network recorded once, and started with one call in the place of thousands.

An update of a narrow network has as many kernels as one of a wide network, and a GPU is done with each sooner than a CPU can
start the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vargfacenet.errors import SettingError


def captured(module: nn.Module, shapes: Mapping[str, Sequence[int]], like: torch.Tensor) -> Any:
    """Return a module whose forward and backward pass in training mode are recorded for inputs of these shapes.

    Running statistics are as before; the module itself still computes kernel by kernel.

    Parameters
    ----------
    module
        A graph on a GPU.
    shapes
        Of its inputs, in order; each is float32.
    like
        The first input: its device and its layout in memory.

    Raises
    ------
    SettingError
        Where PyTorch cannot record it.
    """
    inputs = [like, *(torch.zeros(tuple(shape), device=like.device) for shape in list(shapes.values())[1:])]
    before = {name: value.clone() for name, value in module.named_buffers()}
    module.train()
    try:
        # What is recorded is what the current device is given, which is the first GPU also in a run on another one.
        with torch.cuda.device(like.device):
            run = torch.cuda.make_graphed_callables(_Call(module), tuple(inputs), allow_unused_input=True)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise SettingError(f"cuda_graphs=true: this network cannot be recorded ({reason}); leave it out") from error
    with torch.no_grad():
        for name, value in module.named_buffers():
            value.copy_(before[name])
    return run


class _Call(nn.Module):
    """Calls a module: PyTorch replaces the ``forward`` of what it records."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return what the module returns."""
        return self.module(*inputs)
