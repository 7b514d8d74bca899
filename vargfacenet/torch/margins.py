"""Margin losses in PyTorch, for the classifier in shards: what `vargfacenet.train.classifier.targets` is to MXNet.

A margin loss is written once, in `vargfacenet.symbols.margins`, over the operators of ``mx.sym`` or ``mx.nd``. Here it gets
`OPERATORS_BY_NAME`, whose functions are the operators of graphs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

import torch
from torch import Tensor

from vargfacenet.errors import SettingError
from vargfacenet.symbols.margins import MarginLoss, Samples
from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.custom import moved_mean
from vargfacenet.torch.registry import OPERATORS, Operator

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
            f"a margin loss gives the operator {name} {len(others)} attribute(s) by place, of which engine=torch knows "
            f"{len(names)}: give them by name, as in {name}(data, axis=1)"
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


class Target(NamedTuple):
    """The own identity's logit, and how the loss depends on it; tensors (N,), as of MXNet's `Target`."""

    logit: Tensor
    slope: Tensor
    norm_slope: Tensor
    penalty: Tensor
    penalty_slope: Tensor


class TorchTargets:
    """A margin loss with the numbers that it carries from update to update.

    Parameters
    ----------
    margin
        None for plain softmax.
    scale
        Multiplies the cosines.
    seed
        Of what the loss draws.
    device
        Where batches are.

    Attributes
    ----------
    averages
        The moving means of the loss, each (1,).
    """

    def __init__(self, margin: MarginLoss | None, scale: float, seed: int, device: torch.device) -> None:
        self._margin, self._scale, self._seed = margin, scale, seed
        states: Mapping[str, float] = {} if margin is None else margin.states
        self.averages = {name: torch.full((1,), value, device=device) for name, value in states.items()}
        self._samples: Samples | None = None

    def draw(self, count: int, update: int) -> torch.Tensor | None:
        """Return the numbers that the loss draws for the samples of an update, on the CPU; None where it draws none."""
        drawn = None if self._margin is None else self._margin.draw(count, seed=self._seed, update=update)
        return None if drawn is None else torch.from_numpy(drawn)

    def of(self, true: Tensor, norm: Tensor, teacher: Tensor | None, draw: Tensor | None) -> Target:
        """Return the targets of an update, after which the moving means are those of it.

        Parameters
        ----------
        true, norm
            (N,), cosine to the own identity (with plain softmax the logit), and lengths of the embeddings.
        teacher
            (N,), cosine of the teacher's embedding to the own identity, for a loss that reads it.
        draw
            What `draw` gave, on the device.
        """
        margin, zeros = self._margin, torch.zeros_like(true)
        if margin is None:
            return Target(true, torch.ones_like(true), zeros, zeros, zeros)
        true, norm = true.detach().requires_grad_(True), norm.detach().requires_grad_(True)
        samples = self._samples = Samples(true, norm, draw, teacher)
        with torch.no_grad():
            for name, value in zip(self.averages, margin.observed(samples, operators=OPERATORS_BY_NAME)):
                self.averages[name] = moved_mean(self.averages[name], value, margin.state_momentum)
        with torch.enable_grad():
            target = margin.target(samples, tuple(self.averages.values()), operators=OPERATORS_BY_NAME)
            penalty = margin.penalty(samples, operators=OPERATORS_BY_NAME)
        logit, slope, norm_slope = self._scale * target.detach(), _slope(target, true), _slope(target, norm)
        if penalty is None:
            return Target(logit, slope, norm_slope, zeros, zeros)
        return Target(logit, slope, norm_slope, penalty.detach(), _slope(penalty, norm))

    def weighed(self, cosines: Tensor) -> Tensor:
        """Return the last batch's cosines to all identities as the loss weighs them: (N, C) -> (N, C)."""
        margin, samples = self._margin, self._samples
        if margin is None or samples is None or type(margin).others is MarginLoss.others:
            return cosines
        there, state = Samples(samples.cosine.detach()), tuple(self.averages.values())
        return margin.others(cosines, there, state, operators=OPERATORS_BY_NAME)


def _slope(value: Tensor, over: Tensor) -> Tensor:
    """Return the slope of each number over the one at its place, 0 where there is none: (N,)."""
    if not value.requires_grad:
        return torch.zeros_like(over)
    [slope] = torch.autograd.grad(value.sum(), [over], retain_graph=True, allow_unused=True)
    return torch.zeros_like(over) if slope is None else slope
