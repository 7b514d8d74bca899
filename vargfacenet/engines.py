"""The engine that computes on a device: MXNet, or PyTorch where a device is PyTorch's.

An ``mx.Context`` is a device of MXNet, a ``torch.device`` one of PyTorch. PyTorch is loaded only where one of its devices
is named.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Union

import mxnet as mx

from vargfacenet.devices import parse_devices
from vargfacenet.errors import SettingError
from vargfacenet.torch import require_torch

if TYPE_CHECKING:
    import torch

    Device = Union[mx.Context, torch.device]


def parse_any_devices(text: str, engine: str = "auto") -> list[Device]:
    """Return the devices of an engine: ``cpu:0,cpu:1`` and ``gpu:0`` for MXNet, ``cuda:0`` and ``cpu:0`` for PyTorch.

    ``auto`` is PyTorch where a device is called ``cuda``, or where ``torchrun`` started this process. SettingError for a
    bad name, SetupError for a device that is not there and where PyTorch is missing.
    """
    if chosen_engine(text, engine) == "mxnet":
        return list(parse_devices(text))
    return torch_module("devices").parse_torch_devices(text)


def parse_any_device(text: str) -> Device:
    """Return one device of either engine; errors as in `parse_any_devices`."""
    device, *more = parse_any_devices(text)
    if more:
        raise SettingError(f"device {text!r}: expected one")
    return device


def chosen_engine(devices: str, engine: str = "auto") -> str:
    """Return ``mxnet`` or ``torch``: what `engine` names, or for ``auto`` what the names of devices ask for.

    SettingError where GPUs have the other engine's names.
    """
    chosen = engine
    if engine == "auto":
        chosen = "torch" if "cuda" in devices or "TORCHELASTIC_RUN_ID" in os.environ else "mxnet"
    own, others = ("gpu", "cuda") if chosen == "mxnet" else ("cuda", "gpu")
    if others in devices:
        other = "torch" if chosen == "mxnet" else "mxnet"
        raise SettingError(
            f"devices {devices!r}: engine={chosen} calls them {own}:N; {others}:N are those of engine={other}"
        )
    return chosen


def devices_for(engine: str, devices: Sequence[Device]) -> list[Device]:
    """Return devices as an engine takes them: CPUs of one engine are CPUs of the other."""
    if engine == "auto" or uses_torch(devices) == (engine == "torch"):
        return list(devices)
    names = [str(device).replace("(", ":").replace(")", "") for device in devices]
    return parse_any_devices(",".join(names), engine)


def uses_torch(devices: Sequence[Device]) -> bool:
    """Return True where devices are PyTorch's."""
    return not isinstance(devices[0], mx.Context)


def torch_module(name: str) -> ModuleType:
    """Import a module of `vargfacenet.torch`; SetupError, with the remedy, where PyTorch is missing."""
    require_torch()
    return importlib.import_module(f"vargfacenet.torch.{name}")
