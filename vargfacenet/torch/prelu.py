"""PReLU whose gradient on a CPU is computed by vectorised passes over parts of the batch.

PyTorch's own kernel for it takes one number at a time: on a CPU it takes a fifth of an update of VarGFaceNet, and three to six
times as long as what stands here. On a GPU, and where the graph is compiled or exported, PyTorch's own is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Numbers of a part of the batch. Four arrays of this size stay in the cache between passes, and no pass makes an array of
# the whole size, whose pages the system would have to clear first.
_PART = 1 << 17


def prelu(data: Tensor, slopes: Tensor) -> Tensor:
    """Return ``x`` where it is above 0, elsewhere ``slope x``: (N, C, ...) with slopes (C,) or (1,)."""
    # Under autocast slopes are float32 and the data may not be.
    slopes = slopes.to(data.dtype)
    if data.device.type != "cpu" or data.ndim < 2 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return functional.prelu(data, slopes)
    return _PReLU.apply(data, slopes.reshape(1, -1, *[1] * (data.ndim - 2)))


class _PReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(data: Tensor, slopes: Tensor) -> Tensor:
        return torch._prelu_kernel(data, slopes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        data, slopes = ctx.saved_tensors
        axes = (
            [axis for axis in range(data.ndim) if axis != 1 or slopes.shape[1] == 1] if ctx.needs_input_grad[1] else []
        )
        at_once = torch.is_grad_enabled() or not all(map(_is_plain, (data, slopes, gradient)))
        return (_gradients if at_once else _gradients_by_parts)(data, slopes, gradient, axes)


def _is_plain(tensor: Tensor) -> bool:
    """Return True for numbers in memory: what is written in place has no rule for tensors in a batch, or without numbers."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _gradients(data: Tensor, slopes: Tensor, gradient: Tensor, axes: list[int]) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the data and, summed over `axes`, of the slopes; without axes None."""
    above = torch.ops.aten.threshold_backward(gradient, data, 0)  # the gradient where the data is above 0, else 0
    to_slopes = ((gradient - above) * data).sum(axes, keepdim=True) if axes else None
    return torch.lerp(above, gradient, slopes), to_slopes


def _gradients_by_parts(
    data: Tensor, slopes: Tensor, gradient: Tensor, axes: list[int]
) -> tuple[Tensor, Tensor | None]:
    """Return what `_gradients` returns, computed for one part of the batch after the other."""
    rows = max(1, min(len(data), _PART * len(data) // max(1, data.numel())))
    found = torch.empty_like(data)
    to_slopes = torch.zeros_like(slopes, dtype=torch.float32 if slopes.itemsize < 4 else None) if axes else None
    rest = torch.empty_like(data[:rows])
    for part, values, to_data in zip(data.split(rows), gradient.split(rows), found.split(rows)):
        below = rest[: len(part)]
        torch.ops.aten.threshold_backward.grad_input(values, part, 0, grad_input=to_data)
        torch.sub(values, to_data, out=below)
        to_data.addcmul_(below, slopes)
        if to_slopes is not None:
            to_slopes += below.mul_(part).sum(axes, keepdim=True)
    return found, to_slopes if to_slopes is None else to_slopes.to(slopes.dtype)
