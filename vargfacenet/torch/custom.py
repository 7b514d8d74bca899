"""MXNet's ``Custom`` operators, which are written in Python there: each has a form of its own here, by its ``op_type``.

The two that this package registers keep numbers of a margin loss from update to update, as auxiliary states of the graph.
A loss from another package that has a custom operator enters its form by `custom_operator`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.registry import Builder, Operator, operator

_LEAST = 1e-6  # of a share, as in `vargfacenet.symbols.margins.adadistill`


class Custom(NamedTuple):
    """A custom operator: what makes a function of a node's attributes, and which of its inputs are auxiliary states."""

    build: Builder
    statistics: tuple[int, ...]


_CUSTOM: dict[str, Custom] = {}


def custom_operator(op_type: str, *, statistics: tuple[int, ...] = ()) -> Callable[[Builder], Builder]:
    """Enter the PyTorch form of a custom operator of MXNet: a decorator.

    Parameters
    ----------
    op_type
        The name under which ``mx.operator.register`` knows it.
    statistics
        Numbers of its inputs that are auxiliary states: those after its arguments.

    Returns
    -------
    Callable
        Takes a function of the node's `Attributes` that returns a function of the mode (True in training) and the node's
        inputs. That function may change auxiliary states in place.
    """

    def enter(builder: Builder) -> Builder:
        _CUSTOM[op_type] = Custom(builder, statistics)
        return builder

    return enter


def statistics_of(node: Mapping[str, Any]) -> tuple[int, ...]:
    """Return which inputs of a ``Custom`` node are auxiliary states; none for an operator that is not known."""
    found = _CUSTOM.get(node.get("attrs", {}).get("op_type", ""))
    return found.statistics if found else ()


@operator("Custom")
def custom(attributes: Attributes) -> Operator:
    """Return the form of a custom operator; CheckpointError where there is none."""
    op_type = attributes.value("op_type")
    if op_type not in _CUSTOM:
        attributes.refuse(
            f"has op_type={op_type}, a custom operator without a form in PyTorch (known are {', '.join(sorted(_CUSTOM))}); "
            "vargfacenet.torch.custom.custom_operator enters one"
        )
    return _CUSTOM[op_type].build(attributes)  # type: ignore[return-value]


@custom_operator("vargfacenet_moving_mean", statistics=(1,))
def moving_mean(attributes: Attributes) -> Operator:
    """Return the moving mean of `vargfacenet.symbols.margins.moving_mean`."""
    momentum = float(attributes.value("momentum"))

    def run(training: bool, value: Tensor, mean: Tensor) -> Tensor:
        if training:
            mean.copy_(moved_mean(mean, value.detach(), momentum))
        return mean.detach()

    return run


def moved_mean(mean: Tensor, value: Tensor, momentum: float) -> Tensor:
    """Return a moving mean after an update: tensors of one shape; where `value` is NaN it stays as it is."""
    return torch.where(torch.isnan(value), mean, momentum * mean + (1 - momentum) * value)


@custom_operator("vargfacenet_moving_centres", statistics=(3,))
def moving_centres(attributes: Attributes) -> Operator:
    """Return AdaDistill's centres after a batch, see `vargfacenet.symbols.margins.adadistill`."""
    attributes.value("num_identities")
    weighted = attributes.flag("weighted", True)

    def run(training: bool, student: Tensor, teacher: Tensor, label: Tensor, centres: Tensor) -> Tensor:
        if training:
            rows = label.detach().long()
            with torch.no_grad():
                centres[rows] = moved_centres(centres[rows], rows, student, teacher, weighted=weighted)
        return centres.detach()

    return run


def moved_centres(own: Tensor, label: Tensor, student: Tensor, teacher: Tensor, *, weighted: bool) -> Tensor:
    """Return the centre of each sample's identity after a batch: (N, embedding_size).

    What `vargfacenet.symbols.margins.adadistill.moved_centres` computes one sample after another is here a product: with the
    shares ``a`` of the samples of one identity, in their order, its centre becomes ``prod(a) W + sum_i (1 - a_i) (prod of a_j
    of later samples) t_i``. Nothing waits for the device.

    Parameters
    ----------
    own
        (N, embedding_size), the centre of each sample's identity before the batch, of any length.
    label
        int (N,).
    student, teacher
        (N, embedding_size), of length 1.
    weighted
        As in `vargfacenet.symbols.margins.adadistill.adadistill`.
    """
    share = (student * teacher).sum(1)
    if weighted:
        lengths = torch.linalg.vector_norm(own, dim=1).clamp(min=1e-12)
        share = share * ((own * teacher).sum(1) / lengths).clamp(_LEAST, 1)
    share = share.clamp(_LEAST, 1)  # (N,)
    alike = (label[:, None] == label).to(own.dtype)  # (N, N)
    logarithms = share.log()
    later = torch.exp(alike.triu(1) @ logarithms)
    weights = alike * ((1 - share) * later)  # (N, N), of each sample in the centre of another's identity
    return torch.exp(alike @ logarithms)[:, None] * own + weights @ teacher
