"""Margin losses on tensors, for the classifier in shards.

A margin loss is written once, in `vargfacenet.symbols.margins`, over the operators of ``mx.sym`` or ``mx.nd``. Here it gets
`OPERATORS_BY_NAME`, whose functions are the operators of graphs.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor

from vargfacenet.errors import SettingError
from vargfacenet.symbols.margins import Samples
from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.custom import moved_mean
from vargfacenet.torch.registry import OPERATORS, Operator
from vargfacenet.torch.transfers import to_device
from vargfacenet.train.classifier.margin_targets import MarginTargets

# Attributes that `mx.sym` and `mx.nd` also take by their place, after the inputs.
_BY_PLACE = {"clip": ("a_min", "a_max"), "expand_dims": ("axis",), "one_hot": ("depth",)}


class OperatorsByName:
    """MXNet's operators as functions of tensors, as ``mx.nd`` has them for its arrays: ``operators.clip(data, -1, 1)``."""

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OPERATORS:
            raise SettingError(
                f"a margin loss takes the operator {name}, which engine=torch does not know; "
                "vargfacenet.torch.registry.operator enters one, --engine mxnet has all"
            )
        return functools.partial(_call, name)


OPERATORS_BY_NAME = OperatorsByName()


def _call(name: str, *given: Any, **attributes: Any) -> Tensor:
    tensors = [value for value in given if isinstance(value, Tensor)]
    others, names = given[len(tensors) :], _BY_PLACE.get(name, ())
    if len(others) > len(names) or any(isinstance(value, Tensor) for value in others):
        raise SettingError(
            f"a margin loss gives the operator {name} {len(others)} attribute(s) by place, expected at most {len(names)} "
            f"for engine=torch: give them by name, as in {name}(data, axis=1)"
        )
    placed = dict(zip(names, others))
    facts = tuple(sorted((key, str(value)) for key, value in {**placed, **attributes}.items()))
    return _built(name, facts)(True, *tensors)


@functools.cache
def _built(name: str, facts: tuple[tuple[str, str], ...]) -> Operator:
    attributes = Attributes({"op": name, "name": "of a margin loss", "attrs": dict(facts)})
    found = OPERATORS[name](attributes)
    attributes.check_all_read()
    return found  # type: ignore[return-value]


class TorchTargets(MarginTargets):
    """`MarginTargets` on tensors."""

    operators = OPERATORS_BY_NAME

    def _on_device(self, values: np.ndarray) -> Tensor:
        return to_device(torch.from_numpy(values), self._device)

    def _leaf(self, values: Tensor) -> Tensor:
        return values.detach().clone().requires_grad_(True)

    def _constant(self, values: Tensor, like: Tensor) -> Tensor:
        return values.detach()

    def _moved(self, mean: Tensor, value: Tensor, momentum: float) -> Tensor:
        return moved_mean(mean, value.detach(), momentum)

    def _with_slopes(
        self, samples: Samples, compute: Callable[[], Tensor | None]
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        leaves = [samples.cosine, samples.norm]
        with torch.enable_grad():
            value = compute()
        slopes: tuple[Tensor | None, ...] = (None, None)
        if value is not None and value.requires_grad:
            slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        slope, norm_slope = (torch.zeros_like(leaf) if one is None else one for one, leaf in zip(slopes, leaves))
        return None if value is None else value.detach(), slope, norm_slope
