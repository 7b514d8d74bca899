"""Parse devices of PyTorch given as text, such as ``cuda:0``."""

from __future__ import annotations

import re

import torch

from vargfacenet.errors import SettingError, SetupError
from vargfacenet.torch.cluster import local_rank, local_world_size

_NAME = re.compile(r"(cpu|cuda)(?::(\d{1,3}))?", re.ASCII)


def parse_torch_devices(text: str) -> list[torch.device]:
    """Return devices named as in ``cuda:0`` or ``cpu:0,cpu:1``.

    ``cuda`` alone is the GPU with this worker's number on its machine. Several CPUs are slices of a batch, computed one after
    another; several GPUs are workers of their own, which ``torchrun`` starts.

    Raises
    ------
    SettingError
        For another name, several GPUs, or one GPU for all workers of a machine.
    SetupError
        For a GPU that is not there.
    """
    devices = []
    for item in text.split(","):
        found = _NAME.fullmatch(item.strip())
        if found is None:
            raise SettingError(
                f"device {item.strip()!r}: engine=torch takes cuda:N, cuda or cpu:N, separated by commas"
            )
        number = int(found[2]) if found[2] else local_rank() if found[1] == "cuda" else 0
        devices.append(torch.device(found[1], number))
    if len(set(devices)) < len(devices):
        raise SettingError(f"devices {text!r}: the same one is given twice")
    gpus = [device for device in devices if device.type == "cuda"]
    if len(devices) > 1 and gpus:
        raise SettingError(
            f"devices {text!r}: a worker of engine=torch has one GPU; start one worker for each with torchrun "
            f"--nproc-per-node {len(devices)} -m vargfacenet train ... --device cuda"
        )
    if local_world_size() > 1 and re.search(r"cuda:\d", text):
        raise SettingError(
            f"device {text!r}: each of the {local_world_size()} workers of this machine would take the same GPU; expected "
            "'cuda', which is the GPU with the worker's number"
        )
    there = torch.cuda.device_count() if gpus else 0
    for device in gpus:
        if device.index >= there:
            raise SetupError(f"device {device}: PyTorch sees {there} GPU(s) here; 'vargfacenet doctor' says more")
    return devices


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU."""
    return torch.cuda.mem_get_info(device)[0]


def whole_memory() -> int | None:
    """Return the bytes of the first GPU; None where there is none."""
    return torch.cuda.mem_get_info(0)[1] if torch.cuda.is_available() else None
