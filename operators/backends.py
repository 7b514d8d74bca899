"""The backends: operators that a graph runs on.

``native``: kernels in C++, compiled on this machine or prebuilt, for CPUs. ``basic``: the same values and gradients from
MXNet's own operators, on any device. ``stock``: the published graph unchanged, whose PReLU has wrong gradients on the CPU;
only for comparisons.
"""

from __future__ import annotations

import functools
import logging
import os

import mxnet as mx

from vargfacenet.errors import SettingError, SetupError
from vargfacenet.operators.library import load_library, missing_for_native

BACKENDS = ("native", "basic", "stock")
VARIABLE = "VARGFACENET_OPERATORS"

log = logging.getLogger(__name__)


def choose_backend(device: mx.Context | None = None) -> str:
    """Return the backend for a device, by default the CPU.

    The environment variable VARGFACENET_OPERATORS chooses it. Without the variable it is ``native`` on a CPU where the
    operators are compiled, a compiler exists or prebuilt ones fit, and ``basic`` otherwise. SettingError where the variable
    names no backend or one that the device cannot have; SetupError where ``native`` is chosen but cannot be had.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", *BACKENDS):
        raise SettingError(f"{VARIABLE}={wanted}: expected one of {', '.join(BACKENDS)}")
    on_gpu = device is not None and device.device_type == "gpu"
    if on_gpu and wanted == "native":
        raise SettingError(f"{VARIABLE}=native is for CPUs, the device is {device}: unset it")
    if wanted in ("basic", "stock"):
        return wanted
    if on_gpu:
        return "basic"
    try:
        load_library()
    except SetupError as error:
        if wanted:
            raise SetupError(f"{VARIABLE}=native: {error}") from error
        return "basic"
    return "native"


@functools.cache
def log_backend(backend: str) -> None:
    """Log once which backend graphs run on where it is not the fastest, and why."""
    reason = missing_for_native() if backend == "basic" and not os.environ.get(VARIABLE) else None
    about = f", {load_library().origin}" if backend == "native" else ""
    log.log(
        logging.DEBUG if backend == "native" else logging.INFO,
        "operators: %s%s",
        backend,
        f", slower than native ones: {reason}" if reason else about,
    )
