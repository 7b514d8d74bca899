"""Comparison, order and selection. Comparisons give 1 or 0 in the type of their first input, as in MXNet."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.registry import Operator, enter_plain, operator

_COMPARISONS: dict[str, Callable[..., Tensor]] = {
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "lesser": torch.lt,
    "lesser_equal": torch.le,
}


def _enter_comparison(name: str, compare: Callable[..., Tensor]) -> None:
    def build(attributes: Attributes) -> Operator:
        number = float(attributes.value("scalar"))
        return lambda training, data: compare(data, number).to(data.dtype)

    operator(f"_{name}_scalar")(build)
    enter_plain(lambda left, right: compare(left, right).to(left.dtype), f"broadcast_{name}")


for _name, _compare in _COMPARISONS.items():
    _enter_comparison(_name, _compare)
# The gradient of equal numbers goes to the first input, as in MXNet; torch.maximum would give each half of it.
enter_plain(lambda left, right: torch.where(left >= right, left, right), "broadcast_maximum")
enter_plain(lambda left, right: torch.where(left <= right, left, right), "broadcast_minimum")


@operator("where")
def where(attributes: Attributes) -> Operator:
    """Return numbers of the second input where the first is not 0, else of the third; a row of conditions chooses rows."""

    def run(training: bool, condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
        if condition.ndim == 1 and first.ndim > 1:
            condition = condition.reshape(-1, *[1] * (first.ndim - 1))
        return torch.where(condition != 0, first, second)

    return run


@operator("take")
def take(attributes: Attributes) -> Operator:
    """Return parts along an axis by their numbers; a number out of range counts as the nearest one."""
    axis = int(attributes.value("axis", 0))
    attributes.choice("mode", ("clip",), "clip")

    def run(training: bool, data: Tensor, places: Tensor) -> Tensor:
        flat = places.long().clamp(0, data.shape[axis] - 1).flatten()
        found = data.index_select(axis, flat)
        return found.reshape(data.shape[:axis] + places.shape + data.shape[axis % data.ndim + 1 :])

    return run


def _order(attributes: Attributes) -> tuple[int, bool]:
    axis = attributes.value("axis", -1)
    if axis is None:
        attributes.refuse("orders all numbers of an array; known is one axis")
    return int(axis), not attributes.flag("is_ascend", True)


@operator("argsort")
def argsort(attributes: Attributes) -> Operator:
    """Return the places that numbers along an axis are taken from in order, as float32; equal ones keep their order."""
    axis, descending = _order(attributes)
    attributes.choice("dtype", ("float32",), "float32")

    def run(training: bool, data: Tensor) -> Tensor:
        return data.argsort(stable=True, dim=axis, descending=descending).to(torch.float32)

    return run


@operator("sort")
def sort(attributes: Attributes) -> Operator:
    """Return numbers along an axis in order."""
    axis, descending = _order(attributes)
    return lambda training, data: data.sort(stable=True, dim=axis, descending=descending).values
