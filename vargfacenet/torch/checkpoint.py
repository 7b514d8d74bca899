"""The lineage's checkpoints as PyTorch modules, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Union

import mxnet as mx
import numpy as np
import torch

from vargfacenet.errors import CheckpointError
from vargfacenet.formats import checkpoint as files
from vargfacenet.torch.graph import SymbolModule

Prefix = Union[str, "os.PathLike[str]"]


def load_module(prefix: Prefix, epoch: int = 0) -> SymbolModule:
    """Return a checkpoint of this project or of the lineage as a module in inference mode, on the CPU.

    It takes images (N, 3, 112, 112), RGB, 0..255, float32, and gives embeddings (N, embedding_size), not normalised. Its
    parameters and buffers have the checkpoint's names. Errors are those of
    `vargfacenet.formats.checkpoint.load_checkpoint`, and a CheckpointError for an operator that is not known here.
    """
    symbol, args, auxs = files.load_checkpoint(prefix, epoch)
    module = module_of(symbol, {**args, **auxs})
    return module.eval()


def save_checkpoint(module: SymbolModule, prefix: Prefix, epoch: int = 0) -> None:
    """Write a module as a checkpoint that MXNet's own calls load, in float32.

    Errors are those of `vargfacenet.formats.save_checkpoint`, and a CheckpointError for a module of another kind.
    """
    if not isinstance(module, SymbolModule):
        inside = "; save the one inside it" if hasattr(module, "module") or hasattr(module, "_orig_mod") else ""
        raise CheckpointError(
            f"a {type(module).__name__} has no graph to save: expected a module that load_module returned{inside} "
            "(.module of DistributedDataParallel, ._orig_mod of torch.compile)"
        )
    symbol = mx.sym.load_json(module.text)
    args, auxs = arrays_of(module)
    files.save_checkpoint(prefix, epoch, symbol, args, auxs)


def module_of(
    symbol: mx.sym.Symbol, values: Mapping[str, mx.nd.NDArray], inputs: tuple[str, ...] = ("data",)
) -> SymbolModule:
    """Return a graph with its parameters and running statistics as a module."""
    module = SymbolModule(symbol.tojson(), {name: value.shape for name, value in values.items()}, inputs)
    set_arrays(module, values)
    return module


def set_arrays(module: SymbolModule, values: Mapping[str, mx.nd.NDArray]) -> None:
    """Give a module its parameters and running statistics, all of them, wherever it lives."""
    with torch.no_grad():
        for name, tensor in named_tensors(module):
            tensor.copy_(torch.from_numpy(values[name].asnumpy()))


def arrays_of(module: SymbolModule) -> tuple[dict[str, mx.nd.NDArray], dict[str, mx.nd.NDArray]]:
    """Return copies of a module's parameters and running statistics as two dicts of NDArray."""
    values = {name: as_ndarray(tensor) for name, tensor in named_tensors(module)}
    args = {name: values[name] for name in module.parameter_names}
    return args, {name: values[name] for name in module.statistic_names}


def named_tensors(module: SymbolModule) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and the tensor of each parameter and buffer."""
    for name in (*module.parameter_names, *module.statistic_names):
        yield name, getattr(module, name)


def as_ndarray(tensor: torch.Tensor) -> mx.nd.NDArray:
    """Return a copy of a tensor as a float32 NDArray on the CPU."""
    return mx.nd.array(np.ascontiguousarray(tensor.detach().to("cpu", torch.float32).numpy()), dtype="float32")
