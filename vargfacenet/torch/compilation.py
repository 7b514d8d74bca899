"""``torch.compile`` of a graph, where it can be done."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)


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
        return None if importlib.util.find_spec("triton") else "kernels for a GPU need Triton (pip install triton)"
    from torch._inductor import config  # loading it takes a second, and only compile=true needs it

    compilers = config.cpp.cxx if isinstance(config.cpp.cxx, (tuple, list)) else (config.cpp.cxx,)
    if any(one and shutil.which(one) for one in compilers):
        return None
    return "kernels for a CPU need a C++ compiler (apt install g++), and none is in PATH"
