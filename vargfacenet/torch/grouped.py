"""Convolutions of few channels a group, computed on a GPU as convolutions of all channels.

cuDNN has no good kernels for groups of eight channels in bfloat16: on an H200 a 3x3 convolution of VarGFaceNet takes 1.1 to 5
times as long, forward and backward, as one of all channels whose other weights are zeros. The sums are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_MOST_OF_GROUP = 8  # channels of a group of the input, and
_MOST_CHANNELS = 320  # of all, up to which this was measured
_MOST_KERNEL = 3  # the 7x7 of the embedding is 15 times slower so


def pays(data: Tensor, weight: Tensor, groups: int) -> bool:
    """Return True where a grouped convolution is better computed as one of all channels: in bfloat16, channels last."""
    if groups == 1 or data.device.type != "cuda" or data.ndim != 4 or not 1 < weight.shape[1] <= _MOST_OF_GROUP:
        return False
    if weight.shape[-1] > _MOST_KERNEL or data.shape[1] > _MOST_CHANNELS:
        return False
    return computed_in(data) == torch.bfloat16 and data.is_contiguous(memory_format=torch.channels_last)


def computed_in(data: Tensor) -> torch.dtype:
    """Return the type in which a convolution of the data is computed, autocast included."""
    kind = data.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else data.dtype


def with_zeros(weight: Tensor, groups: int) -> Tensor:
    """Return the weight (filters, channels, height, width) of all channels that does what a grouped weight does.

    The grouped weight is (filters, channels / groups, height, width); the channels of a pixel lie together in the result.
    """
    found: Tensor = _WithZeros.apply(weight, groups)
    return found


class _WithZeros(torch.autograd.Function):
    """The blocks of a block-diagonal matrix, and back."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, groups: int) -> Tensor:
        filters, channels, height, width = weight.shape
        ctx.sizes = groups, filters // groups, height, width, groups, channels
        whole = weight.new_zeros(ctx.sizes)
        blocks = weight.reshape(groups, -1, channels, height, width)
        _blocks_of(whole).copy_(blocks.permute(1, 3, 4, 2, 0))
        return whole.view(filters, height, width, groups * channels).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        groups, filters, height, width, _, channels = ctx.sizes
        blocks = _blocks_of(gradient.permute(0, 2, 3, 1).reshape(ctx.sizes))
        return blocks.permute(4, 0, 3, 1, 2).reshape(groups * filters, channels, height, width), None


def _blocks_of(whole: Tensor) -> Tensor:
    """Return the diagonal blocks of (groups, filters, height, width, groups, channels): the groups last."""
    return whole.diagonal(dim1=0, dim2=4)
