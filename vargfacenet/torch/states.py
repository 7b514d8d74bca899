"""The state of a trainer in PyTorch as the arrays of a training state, and its exchange between workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mxnet as mx
import torch

from vargfacenet.torch.averages import Averages
from vargfacenet.torch.checkpoint import as_ndarray, named_tensors
from vargfacenet.torch.graph import SymbolModule
from vargfacenet.torch.optimizer import FusedOptimizer
from vargfacenet.train.engine import Arrays


def kept_arrays(args: Arrays, optimizer: FusedOptimizer, averages: Averages | None) -> Arrays:
    """Return what a state holds besides parameters and running statistics, as ``KIND:NAME``; `args` are the parameters."""
    state: Arrays = {}
    for kind, kept in optimizer.slots().items():
        still = [name for name in args if name not in kept]  # which MXNet keeps too
        state.update({f"{kind}:{name}": mx.nd.zeros(args[name].shape) for name in still})
        state.update({f"{kind}:{name}": as_ndarray(value) for name, value in kept.items()})
    if averages is not None:
        state.update({f"ema:{name}": as_ndarray(value) for name, value in averages.values.items()})
    return state


def load_kept(parts: Mapping[str, Arrays], optimizer: FusedOptimizer, averages: Averages | None) -> None:
    """Take what `kept_arrays` returned, by kind and name."""
    tensors = {
        kind: {name: torch.from_numpy(value.asnumpy()) for name, value in each.items()} for kind, each in parts.items()
    }
    optimizer.load_slots(tensors)
    if averages is not None:
        averages.load(tensors["ema"])


def broadcast(cluster: Any, module: SymbolModule, optimizer: FusedOptimizer, averages: Averages | None) -> None:
    """Give every worker all numbers of worker 0."""
    slots = optimizer.slots()
    kept = [tensor for each in slots.values() for tensor in each.values()]
    averaged = averages.values.values() if averages is not None else ()
    for tensor in (*(value.detach() for _, value in named_tensors(module)), *kept, *averaged):
        cluster.broadcast_tensor(tensor)
    optimizer.load_slots(slots)


def average_statistics(cluster: Any, module: SymbolModule, averages: Averages | None) -> None:
    """Give running statistics, and averages of them, their mean over workers."""
    found = [getattr(module, name) for name in module.statistic_names]
    found += [averages.values[name] for name in averages.statistics] if averages is not None else []
    with torch.no_grad():
        for value in found:
            value.copy_(cluster.all_reduce_tensor(value.clone()) / cluster.world_size)
