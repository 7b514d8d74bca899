"""Stochastic gradient descent with momentum as MXNet's ``sgd`` does it, in one fused pass over all parameters.

MXNet keeps ``m' = momentum * m - lr * (rescale * g + wd * w)`` and adds it to the weight; PyTorch keeps
``b' = momentum * b + g + wd * w`` and subtracts ``lr * b'``. With a learning rate of 1, gradients scaled by
``lr * rescale`` and a weight decay of ``lr * wd``, PyTorch's buffer is MXNet's momentum with the other sign, whatever the
schedule does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from vargfacenet.errors import SettingError

_LEAST_LR = 1e-30  # in the place of 0, by which gradients cannot be divided


class MomentumSGD:
    """Update parameters by the gradients that are in their ``grad``.

    Parameters
    ----------
    parameters
        Those that are trained, by name.
    decays
        Multiplier of the weight decay of each.
    momentum, weight_decay
        As MXNet's.
    rescale
        Multiplies gradients before everything else.
    clip_gradient
        Largest absolute value of a rescaled gradient's entry; 0 for no limit.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        decays: Mapping[str, float],
        *,
        momentum: float,
        weight_decay: float,
        rescale: float,
        clip_gradient: float = 0.0,
    ) -> None:
        self._parameters = dict(parameters)
        self._rescale, self._clip = rescale, clip_gradient
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            groups.setdefault(weight_decay * decays[name], []).append(parameter)
        self._decays = list(groups)
        self._sgd = torch.optim.SGD(
            [{"params": members} for members in groups.values()], lr=1.0, momentum=momentum, fused=True
        )
        self._momenta: dict[str, torch.Tensor] = {}
        if momentum:
            for name, parameter in parameters.items():
                buffer = torch.zeros_like(parameter)
                self._momenta[name] = self._sgd.state[parameter]["momentum_buffer"] = buffer
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
        for group, decay in zip(self._sgd.param_groups, self._decays):
            group["weight_decay"] = lr * decay
        self._sgd.grad_scale = self._scale.fill_(1 / (max(lr, _LEAST_LR) * rescale))
        self._sgd.found_inf = skip
        self._sgd.step()

    def clear(self) -> None:
        """Forget all gradients."""
        self._sgd.zero_grad(set_to_none=True)

    def momenta(self) -> dict[str, torch.Tensor]:
        """Return the momentum of each parameter, as MXNet keeps it (copies)."""
        return {name: -buffer for name, buffer in self._momenta.items()}

    def load_momenta(self, momenta: Mapping[str, torch.Tensor]) -> None:
        """Take momenta as MXNet keeps them; those that are not given become 0."""
        for name, buffer in self._momenta.items():
            if name in momenta:
                buffer.copy_(momenta[name]).neg_()
            else:
                buffer.zero_()


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
