"""Operators that end a graph: their gradients are MXNet's, whatever comes from behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.registry import Operator, operator


@operator("MakeLoss", "make_loss")
def make_loss(attributes: Attributes) -> Operator:
    """Return the identity with a gradient of ``grad_scale`` for each number, over the batch or the valid ones if asked."""
    scale, threshold = float(attributes.value("grad_scale", 1.0)), float(attributes.value("valid_thresh", 0.0))
    normalization = attributes.choice("normalization", ("null", "batch", "valid"), "null")

    def run(training: bool, data: Tensor) -> Tensor:
        return _Loss.apply(data, scale, threshold, normalization)

    return run


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, data: Tensor, scale: float, threshold: float, normalization: str) -> Tensor:
        ctx.save_for_backward(data)
        ctx.facts = scale, threshold, normalization
        return data.clone()

    @staticmethod
    def backward(ctx: Any, _from_behind: Tensor) -> tuple[Tensor, None, None, None]:
        (data,) = ctx.saved_tensors
        scale, threshold, normalization = ctx.facts
        gradient = torch.full_like(data, scale)
        if normalization == "batch":
            gradient /= data.shape[0]
        elif normalization == "valid":
            gradient /= (data > threshold).sum().clamp(min=1)
        return gradient, None, None, None


@operator("SoftmaxOutput", "Softmax")
def softmax_output(attributes: Attributes) -> Operator:
    """Return softmax over axis 1, or over all but the first, with the gradient of the cross entropy to a label."""
    facts = {
        "scale": float(attributes.value("grad_scale", 1.0)),
        "ignored": float(attributes.value("ignore_label", -1.0)) if attributes.flag("use_ignore", False) else None,
        "normalization": attributes.choice("normalization", ("null", "batch", "valid"), "null"),
        "smoothing": float(attributes.value("smooth_alpha", 0.0)),
    }
    attributes.value("ignore_label", None)
    several = attributes.flag("multi_output", False)
    for name in ("preserve_shape", "out_grad"):
        if attributes.flag(name, False):
            attributes.refuse(f"has {name}=True")

    def run(training: bool, data: Tensor, label: Tensor) -> Tensor:
        scores = data if several else data.flatten(1)
        return _SoftmaxOutput.apply(scores, label, facts).reshape(data.shape)

    return run


class _SoftmaxOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, label: Tensor, facts: dict[str, Any]) -> Tensor:
        probability = scores.softmax(1)
        ctx.save_for_backward(probability, label)
        ctx.facts = facts
        return probability

    @staticmethod
    def backward(ctx: Any, _from_behind: Tensor) -> tuple[Tensor, None, None]:
        probability, label = ctx.saved_tensors
        facts, classes = ctx.facts, probability.shape[1]
        label = label.reshape(probability.shape[:1] + probability.shape[2:])
        valid = torch.ones_like(label, dtype=torch.bool) if facts["ignored"] is None else label != facts["ignored"]
        places = label.long().clamp(0, classes - 1).unsqueeze(1)
        smoothing = facts["smoothing"]
        wanted = torch.full_like(probability, smoothing / (classes - 1) if smoothing else 0.0)
        wanted.scatter_(1, places, 1 - smoothing)
        gradient = (probability - wanted) * valid.unsqueeze(1)
        # MXNet divides the gradients of several positions a sample by their number too.
        positions = label[0].numel()
        divisor: Any = positions
        if facts["normalization"] == "batch":
            divisor = positions * label.shape[0]
        elif facts["normalization"] == "valid":
            divisor = valid.sum().clamp(min=1)
        return gradient * (facts["scale"] / divisor), None, None
