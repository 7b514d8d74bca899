"""The second engine: the same graphs in PyTorch, for machines whose GPUs MXNet does not know.

>>> from vargfacenet.torch import load_module, save_checkpoint
>>> network = load_module("runs/student/best")  # an nn.Module: (N, 3, 112, 112), RGB, 0..255 -> (N, embedding_size)

PyTorch is an extra: ``pip install 'vargfacenet[torch]'`` or ``make install TORCH=1``. What stands here is loaded on first
use, so that nothing changes for those who do not have it.
"""

from __future__ import annotations

import importlib
import importlib.util
import typing

from vargfacenet.errors import SetupError

if typing.TYPE_CHECKING:
    from vargfacenet.torch.checkpoint import load_module, save_checkpoint
    from vargfacenet.torch.graph import SymbolModule

__all__ = ["SymbolModule", "has_torch", "load_module", "require_torch", "save_checkpoint"]

INSTALL = "pip install 'vargfacenet[torch]', or in a checkout make install TORCH=1"
_HOMES = {"load_module": "checkpoint", "save_checkpoint": "checkpoint", "SymbolModule": "graph"}


def has_torch() -> bool:
    """Return True where PyTorch is installed; it is not imported."""
    return importlib.util.find_spec("torch") is not None


def require_torch() -> None:
    """Raise a SetupError that says how to install PyTorch where it is missing."""
    if not has_torch():
        raise SetupError(f"PyTorch is not installed, which engine=torch and vargfacenet.torch need: {INSTALL}")


def __getattr__(name: str) -> typing.Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_torch()
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
