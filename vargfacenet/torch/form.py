"""The form in which a graph is computed in training: kernel by kernel, compiled, or recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vargfacenet.errors import SettingError
from vargfacenet.torch.capture import captured
from vargfacenet.torch.compilation import compiled
from vargfacenet.torch.precision import Compute


def refuse_dropout(graph: str) -> None:
    """Raise SettingError where a graph, as JSON, drops numbers by chance, so that its passes cannot be recorded."""
    for node in json.loads(graph)["nodes"]:
        if node["op"] == "Dropout" and float(node.get("attrs", {}).get("p", 0.5)) > 0:
            raise SettingError(
                "cuda_graphs=true: this network has dropout, which would fall alike in all updates; leave one of them out"
            )


def form_of(module: nn.Module, compute: Compute, shapes: Mapping[str, Sequence[int]], *, graph: str) -> Any:
    """Return what computes a graph: itself, or a compiled or recorded one.

    `shapes` are those of its inputs, images first. SettingError where it is to be recorded and has dropout, or cannot be.
    """
    if compute.compiled:
        return compiled(module, compute.device)
    if not compute.captured:
        return module
    refuse_dropout(graph)
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    images = torch.zeros(tuple(next(iter(shapes.values()))), device=compute.device)
    return captured(module, shapes, images.contiguous(memory_format=layout))
