"""The form in which a graph is computed in training: kernel by kernel, compiled, or recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vargfacenet.errors import SettingError
from vargfacenet.torch.capture import captured
from vargfacenet.torch.compilation import compiled
from vargfacenet.torch.precision import Compute


def form_of(
    module: nn.Module, compute: Compute, shapes: Mapping[str, Sequence[int]], *, has_dropout: bool = False
) -> Any:
    """Return what computes a graph: itself, or a compiled or recorded one.

    `shapes` are those of its inputs, images first. SettingError where it is to be recorded and has dropout, or cannot be.
    """
    if compute.compiled:
        return compiled(module, compute.device)
    if not compute.captured:
        return module
    if has_dropout:
        raise SettingError("cuda_graphs=true: this network has dropout, which would fall alike in all updates")
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    images = torch.zeros(tuple(next(iter(shapes.values()))), device=compute.device)
    return captured(module, shapes, images.contiguous(memory_format=layout))
