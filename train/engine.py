"""What computes: MXNet, or PyTorch where the devices are PyTorch's. The latter is loaded only where it is used."""

from __future__ import annotations

import importlib
import os
import typing

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.torch import require_torch
from vargfacenet.train.cluster import join
from vargfacenet.train.precision import check_precision
from vargfacenet.train.teacher import OnlineTeacher
from vargfacenet.train.trainer import check_devices, parse_devices

if typing.TYPE_CHECKING:
    import torch

    from vargfacenet.launch.beats import Beats
    from vargfacenet.torch.embed import TorchTeacher
    from vargfacenet.train.cluster import Cluster
    from vargfacenet.train.config import Config
    from vargfacenet.train.teacher import Teacher

Device = typing.Union[mx.Context, "torch.device"]
_TORCH_ONLY = {"accumulate": 1, "channels_last": False, "compile": False}  # settings, and what MXNet does instead


def parse_any_devices(text: str, engine: str = "auto") -> list[Device]:
    """Return the devices of an engine: ``cpu:0,cpu:1`` and ``gpu:0`` for MXNet, ``cuda:0`` and ``cpu:0`` for PyTorch.

    ``auto`` is PyTorch where a device is called ``cuda``, or where ``torchrun`` started this process.
    """
    wants_torch = engine == "torch" or (engine == "auto" and ("cuda" in text or _is_launched()))
    if not wants_torch:
        if "cuda" in text:
            raise SettingError(f"devices {text!r}: engine=mxnet calls them gpu:N; cuda:N are those of engine=torch")
        return parse_devices(text)
    return _torch_part("devices").parse_torch_devices(text)


def parse_any_device(text: str) -> Device:
    """Return one device, of MXNet's or with a name such as ``cuda:0`` of PyTorch's; errors as `parse_any_devices`."""
    device, *more = parse_any_devices(text)
    if more:
        raise SettingError(f"device {text!r}: expected one")
    return device


def devices_for(engine: str, devices: typing.Sequence[Device] | None) -> list[Device]:
    """Return devices as an engine takes them, by default the CPU: CPUs of the one are CPUs of the other."""
    devices = list(devices or [mx.cpu()])
    if engine == "auto" or uses_torch(devices) == (engine == "torch"):
        return devices
    names = [str(device).replace("(", ":").replace(")", "") for device in devices]
    return parse_any_devices(",".join(names), engine)


def uses_torch(devices: typing.Sequence[Device]) -> bool:
    """Return True where devices are PyTorch's."""
    return not isinstance(devices[0], mx.Context)


def check_engine(config: Config, devices: typing.Sequence[Device], workers: int = 1) -> None:
    """Raise a SettingError for settings that the engine of these devices has not, or a batch that does not divide."""
    if uses_torch(devices):
        _torch_part("engine").check_settings(config, devices, workers)
        return
    for name, usual in _TORCH_ONLY.items():
        if getattr(config, name) != usual:
            raise SettingError(
                f"{name}={getattr(config, name)} is of engine=torch: give --set engine=torch, or leave it out"
            )
    if config.precision == "bfloat16":
        raise SettingError("precision=bfloat16 is of engine=torch: give --set engine=torch too, or precision=float32")
    check_devices(config.batch_size, devices, workers)
    check_precision(config.precision, devices)


def make_online_teacher(
    teacher: Teacher, config: Config, devices: list[Device], *, rows: int
) -> OnlineTeacher | TorchTeacher:
    """Return what embeds each batch, of `rows` images in this worker, by the teacher's network."""
    if not uses_torch(devices):
        return OnlineTeacher(teacher, batch_size=rows, devices=devices, mirror=config.teacher_mirror)
    compute = _torch_part("engine").compute_of(config, devices[0])
    return _torch_part("embed").TorchTeacher(teacher, compute, mirror=config.teacher_mirror, whole=not config.mix)


def make_torch_trainer(*arguments: typing.Any) -> typing.Any:
    """Return the trainer of a generation, see `vargfacenet.torch.engine.make_trainer`."""
    return _torch_part("engine").make_trainer(*arguments)


def join_workers(devices: typing.Sequence[Device], beats: Beats | None = None) -> Cluster:
    """Return the workers that this process was started with, by ``vargfacenet launch`` or by ``torchrun``."""
    if uses_torch(devices):
        return _torch_part("cluster").join_torch(devices[0])
    return join(beats)


def _torch_part(name: str) -> typing.Any:
    require_torch()
    return importlib.import_module(f"vargfacenet.torch.{name}")


def _is_launched() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ
