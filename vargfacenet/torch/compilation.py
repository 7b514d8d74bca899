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
    """Return a module whose kernels are made at its first call.

    The module itself, with a warning, where this machine cannot make kernels.
    """
    fault = missing_for(device) or _fault_of_trial(device)
    if fault:
        log.warning("compile=true: %s; training continues with the kernels of PyTorch itself", fault)
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


def _fault_of_trial(device: torch.device) -> str | None:
    """Return why the smallest graph cannot be compiled, such as a compiler without Python's headers; None where it can."""
    from torch._dynamo.exc import TorchDynamoException  # loading it takes a second, and only compile=true needs it

    def trial(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + 1

    try:
        torch.compile(trial)(torch.zeros(16, device=device))
    except TorchDynamoException as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"a trial failed ({lines[0][:200] if lines else type(error).__name__})"
    return None
