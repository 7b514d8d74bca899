"""Which operators a graph runs on.

``native``: kernels in C++, compiled here, on CPUs. ``basic``: the same values and gradients from MXNet's own operators,
anywhere. ``stock``: the published graph as it is, whose PReLU has wrong gradients on the CPU; for comparisons only.
"""

import functools
import logging
import os

from vargfacenet.errors import SettingError, SetupError
from vargfacenet.operators.library import load_library, missing_for_native

BACKENDS = ("native", "basic", "stock")
VARIABLE = "VARGFACENET_OPERATORS"

log = logging.getLogger(__name__)


def choose_backend(device=None):
    """The backend for a device.

    Parameters
    ----------
    device : mx.Context, optional
        Where the graph will run; the CPU by default.

    Returns
    -------
    str
        What the environment variable VARGFACENET_OPERATORS names; without it, ``native`` on a CPU where a compiler is
        or was, and ``basic`` otherwise.

    Raises
    ------
    SettingError, SetupError
        Where the variable names no backend, or ``native`` and that cannot be had.
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
def log_backend(backend):
    """Says once what graphs run on, and why it is not the fastest."""
    reason = missing_for_native() if backend == "basic" and not os.environ.get(VARIABLE) else None
    log.info("operators: %s%s", backend, f", slower than native ones: {reason}" if reason else "")
