"""The optimizers of `vargfacenet.train.optimizer` in PyTorch, in one fused pass over all parameters.

Of stochastic gradient descent with momentum, MXNet keeps ``m' = momentum * m - lr * (rescale * g + wd * w)`` and adds it
to the weight; PyTorch keeps
``b' = momentum * b + g + wd * w`` and subtracts ``lr * b'``. With a learning rate of 1, gradients scaled by
``lr * rescale`` and a weight decay of ``lr * wd``, PyTorch's buffer is MXNet's momentum with the other sign, whatever the
schedule does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vargfacenet.errors import SettingError
from vargfacenet.train.optimizer import SGD, AdamW, Optimizer

_LEAST_LR = 1e-30  # in the place of 0, by which gradients cannot be divided


class FusedOptimizer:
    """An optimizer of a graph's parameters by the gradients that are in their ``grad``.

    Parameters
    ----------
    parameters
        Those that are trained, by name.
    decays
        Multiplier of the weight decay of each.
    rule
        The optimizer.
    rescale
        Multiplies gradients before everything else.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], decays: Mapping[str, float], *, rule: Optimizer, rescale: float
    ) -> None:
        self._parameters = dict(parameters)
        self._rescale, self._clip = rescale, rule.clip_gradient
        self._groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            self._groups.setdefault(rule.weight_decay * decays[name], []).append(parameter)
        self._fused: Any = None
        self._slots: dict[str, dict[str, torch.Tensor]] = {
            kind: {name: torch.zeros_like(value) for name, value in parameters.items()} for kind in rule.kept
        }
        self._scale = torch.ones((), device=next(iter(parameters.values())).device)

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradient of each parameter that has one."""
        return {name: value.grad for name, value in self._parameters.items() if value.grad is not None}

    def step(self, lr: float, skip: torch.Tensor) -> None:
        """Make an update.

        Parameters
        ----------
        lr
            Learning rate.
        skip
            A float32 number on the parameters' device; where it is not 0 everything stays as it is, and nobody waits to
            know that.
        """
        rescale = self._rescale
        if self._clip:
            gradients = list(self.gradients().values())
            torch._foreach_mul_(gradients, rescale)
            torch._foreach_clamp_min_(gradients, -self._clip)
            torch._foreach_clamp_max_(gradients, self._clip)
            rescale = 1.0
        self._set(lr, rescale)
        self._fused.found_inf = skip
        self._fused.step()

    def clear(self) -> None:
        """Forget all gradients."""
        self._fused.zero_grad(set_to_none=True)

    def slots(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return what is kept for each parameter by kind and name, as MXNet keeps it (copies)."""
        return {kind: {name: self._sign * one for name, one in each.items()} for kind, each in self._slots.items()}

    def load_slots(self, given: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Take what MXNet keeps by kind and name; what is not given becomes 0."""
        for kind, each in self._slots.items():
            for name, buffer in each.items():
                if name in given[kind]:
                    buffer.copy_(given[kind][name]).mul_(self._sign)
                else:
                    buffer.zero_()

    _sign = 1.0  # of what is kept, against MXNet's

    def _set(self, lr: float, rescale: float) -> None:
        """Give PyTorch's optimizer the numbers of an update."""
        raise NotImplementedError


class MomentumSGD(FusedOptimizer):
    """Stochastic gradient descent with momentum; parameters are those of `FusedOptimizer`."""

    _sign = -1.0

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], decays: Mapping[str, float], *, rule: SGD, rescale: float
    ) -> None:
        super().__init__(parameters, decays, rule=rule, rescale=rescale)
        groups = [{"params": members} for members in self._groups.values()]
        self._fused = torch.optim.SGD(groups, lr=1.0, momentum=rule.momentum, fused=True)
        for name, buffer in self._slots.get("momentum", {}).items():
            self._fused.state[parameters[name]]["momentum_buffer"] = buffer

    def _set(self, lr: float, rescale: float) -> None:
        for group, decay in zip(self._fused.param_groups, self._groups):
            group["weight_decay"] = lr * decay
        self._fused.grad_scale = self._scale.fill_(1 / (max(lr, _LEAST_LR) * rescale))


class DecoupledAdamW(FusedOptimizer):
    """Adam with decoupled weight decay; parameters are those of `FusedOptimizer`.

    `first_update` is the number of updates that were made before.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        decays: Mapping[str, float],
        *,
        rule: AdamW,
        rescale: float,
        first_update: int = 0,
    ) -> None:
        super().__init__(parameters, decays, rule=rule, rescale=rescale)
        groups = [{"params": members, "weight_decay": decay} for decay, members in self._groups.items()]
        betas = rule.beta1, rule.beta2
        self._fused = torch.optim.AdamW(groups, lr=1.0, betas=betas, eps=rule.epsilon, fused=True)
        for name, parameter in parameters.items():
            self._fused.state[parameter].update(
                step=torch.full((), float(first_update), device=parameter.device),
                exp_avg=self._slots["mean"][name],
                exp_avg_sq=self._slots["variance"][name],
            )

    def _set(self, lr: float, rescale: float) -> None:
        for group in self._fused.param_groups:
            group["lr"] = lr
        self._fused.grad_scale = self._scale.fill_(1 / rescale)


def make_optimizer(
    parameters: Mapping[str, nn.Parameter],
    decays: Mapping[str, float],
    *,
    rule: Optimizer,
    rescale: float,
    first_update: int = 0,
) -> FusedOptimizer:
    """Return the optimizer of a rule; parameters are those of `DecoupledAdamW`."""
    if isinstance(rule, AdamW):
        return DecoupledAdamW(parameters, decays, rule=rule, rescale=rescale, first_update=first_update)
    return MomentumSGD(parameters, decays, rule=rule, rescale=rescale)


def decay_multipliers(names: list[str], attributes: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """Return what MXNet multiplies the weight decay of each parameter by.

    1 for names that end in ``_weight`` or ``_gamma`` (weights, scales of BN, slopes), 0 for the rest, unless the graph
    says otherwise in ``__wd_mult__``. `attributes` are those of the graph's nodes, by name.
    """
    usual = {name: float(name.endswith(("_weight", "_gamma"))) for name in names}
    return {name: float(attributes.get(name, {}).get("__wd_mult__", usual[name])) for name in names}


def freeze(module: nn.Module, attributes: Mapping[str, Mapping[str, str]]) -> None:
    """Let parameters stay as they are whose learning rate the graph multiplies by 0 (``__lr_mult__``).

    SettingError for another multiplier than 0 and 1.
    """
    for name, parameter in module.named_parameters():
        multiplier = float(attributes.get(name, {}).get("__lr_mult__", 1.0))
        if multiplier not in (0.0, 1.0):
            raise SettingError(
                f"parameter {name} has lr_mult={multiplier:g}: engine=torch knows 0 and 1; give --engine mxnet"
            )
        if not multiplier:
            parameter.requires_grad_(False)
