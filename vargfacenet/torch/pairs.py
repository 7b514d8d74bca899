"""Operators of distillation losses that compare the images of a batch pair by pair."""

from __future__ import annotations

import torch
from torch import Tensor

from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.registry import Operator, enter_plain, operator

enter_plain(torch.ones_like, "ones_like")


@operator("dot")
def dot(attributes: Attributes) -> Operator:
    """Return the product of two matrices, either of them transposed first where asked for."""
    transposed = attributes.flag("transpose_a", False), attributes.flag("transpose_b", False)

    def run(training: bool, left: Tensor, right: Tensor) -> Tensor:
        if left.ndim != 2 or right.ndim != 2:
            attributes.refuse(f"multiplies {left.ndim} by {right.ndim} dimensions; known are matrices")
        return (left.t() if transposed[0] else left) @ (right.t() if transposed[1] else right)

    return run


@operator("_contrib_arange_like")
def arange_like(attributes: Attributes) -> Operator:
    """Return start, start + step and so on, as many as an axis of the input has."""
    axis = int(attributes.value("axis"))
    start, step = float(attributes.value("start", 0)), float(attributes.value("step", 1))
    attributes.choice("repeat", (1,), 1)

    def run(training: bool, data: Tensor) -> Tensor:
        return start + step * torch.arange(data.shape[axis], device=data.device).to(data.dtype)

    return run


@operator("smooth_l1")
def smooth_l1(attributes: Attributes) -> Operator:
    """Return ``(s x)^2 / 2`` where ``|x| < 1 / s^2``, elsewhere ``|x| - 1 / (2 s^2)``."""
    squared = float(attributes.value("scalar", 1.0)) ** 2

    def run(training: bool, data: Tensor) -> Tensor:
        size = data.abs()
        return torch.where(size < 1 / squared, squared / 2 * data.square(), size - 0.5 / squared)

    return run


@operator("max")
def largest(attributes: Attributes) -> Operator:
    """Return the largest number over axes; its gradient goes to all numbers that are equal to it, as in MXNet."""
    axes, keeps = attributes.numbers("axis", ()), attributes.flag("keepdims", False)

    def run(training: bool, data: Tensor) -> Tensor:
        over = axes or tuple(range(data.ndim))
        found = data.detach().amax(over, keepdim=True)
        # The second term is 0, and has the gradient. Of an infinite number it would be NaN.
        zeros = torch.where((data.detach() == found) & found.isfinite(), data - data.detach(), 0.0)
        found = found + zeros.sum(over, keepdim=True)
        if keeps:
            return found
        return found.reshape([1]) if not axes else found.squeeze(over)

    return run
