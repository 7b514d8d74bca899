"""``torch.compile`` of a graph, where it can be done."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

_LEAST_CAPABILITY = (7, 0)  # of Triton


def compiled(module: nn.Module, device: torch.device) -> Any:
    """Return a module whose kernels are made at its first call; the module itself, with a warning, where that fails."""
    missing = missing_for(device)
    if missing:
        log.warning("compile=true: %s; training goes on with the kernels of PyTorch itself", missing)
        return module
    return torch.compile(module)


def missing_for(device: torch.device) -> str | None:
    """Return what ``torch.compile`` lacks on this machine, in words; None where nothing is missing."""
    if not importlib.util.find_spec("torch._inductor"):
        return "this build of PyTorch has no inductor"
    if device.type == "cuda":
        return _missing_for_gpu(device)
    from torch._inductor import config  # loading it takes a second, and only compile=true needs it

    compilers = config.cpp.cxx if isinstance(config.cpp.cxx, (tuple, list)) else (config.cpp.cxx,)
    if any(one and shutil.which(one) for one in compilers):
        return None
    return "kernels for a CPU need a C++ compiler (apt install g++), and none is in PATH"


def _missing_for_gpu(device: torch.device) -> str | None:
    if not importlib.util.find_spec("triton"):
        return "kernels for a GPU need Triton (pip install triton)"
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        return f"kernels for a GPU need compute capability 7.0, and {device} has {'.'.join(map(str, capability))}"
    if not any(one and shutil.which(one) for one in (os.environ.get("CC"), "gcc", "clang")):
        return "Triton starts its kernels by a part in C, which needs a compiler (apt install gcc), and none is in PATH"
    return None
