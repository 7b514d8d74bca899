"""The number of CPU threads that MXNet computes with, in whichever order packages are imported.

MXNet reads ``OMP_NUM_THREADS`` once, when it is loaded; without it one thread is used for two cores. Sums are added up in
another order by another number of threads, so the number decides the last digits of what is computed.
"""

import contextlib
import ctypes
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, Optional

_VARIABLE = "OMP_NUM_THREADS"
_CPU = 1  # MXNet's number for this kind of device
_THREAD_LIMIT = 4  # byte at which MXNet 1.9.1 holds its own limit of threads, see `_raise_limit`
_SYNC_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def usable_cores() -> int:
    """Return the number of cores this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wanted_threads() -> int:
    """Return what ``OMP_NUM_THREADS`` asks for, or one thread for each usable core."""
    first = os.environ.get(_VARIABLE, "").split(",")[0].strip()
    return int(first) if first.isascii() and first.isdecimal() and int(first) > 0 else usable_cores()


def prepare_threads() -> None:
    """Give MXNet `wanted_threads`: by the environment where it is not loaded yet, by calls where it is."""
    wanted = wanted_threads()
    os.environ[_VARIABLE] = str(wanted)  # MXNet ends the process where it is not one whole number
    mxnet = sys.modules.get("mxnet")
    # A module that is still being imported will find the variable.
    if mxnet is None or not hasattr(mxnet, "base") or not hasattr(mxnet, "nd"):
        return
    if threads_in_use() in (None, wanted):
        return
    _raise_limit(mxnet, wanted)
    _run_in_worker(mxnet, lambda openmp: openmp.omp_set_num_threads(wanted))
    if threads_in_use() != wanted:
        warnings.warn(
            f"mxnet was imported before vargfacenet and computes with {threads_in_use()} CPU threads instead of {wanted}: "
            f"import vargfacenet first, or set {_VARIABLE}={wanted}",
            RuntimeWarning,
            stacklevel=2,
        )


def threads_in_use(device_id: int = 0) -> Optional[int]:
    """Return the number of threads with which MXNet computes on a CPU device; None where it does not say."""
    import mxnet

    counts: list[int] = []
    _run_in_worker(mxnet, lambda openmp: counts.append(openmp.omp_get_max_threads()), device_id)
    return counts[0] if counts else None


def _run_in_worker(mxnet: Any, function: Callable[[ctypes.CDLL], Any], device_id: int = 0) -> None:
    """Call `function` with the OpenMP library in the thread of MXNet's engine that computes for a CPU device.

    OpenMP keeps the number for each thread that asks, and MXNet computes in threads of its own:
    ``MXSetNumOMPThreads``, called from Python, changes nothing there.
    """
    openmp = _openmp()
    if openmp is None or not hasattr(mxnet.base._LIB, "MXEnginePushSync"):
        return

    @_SYNC_FUNCTION
    def callback(_context: int, _parameter: int) -> None:
        function(openmp)

    context = (ctypes.c_int32 * 4)(_CPU, device_id, 0, 0)
    name = ctypes.c_char_p(b"vargfacenet_threads")
    status = mxnet.base._LIB.MXEnginePushSync(
        callback, None, None, ctypes.byref(context), None, 0, None, 0, None, 0, name
    )
    if status == 0:
        mxnet.nd.waitall()  # until the callback has run: it must not be freed before


def _openmp() -> Optional[ctypes.CDLL]:
    with contextlib.suppress(OSError):
        return ctypes.CDLL("libgomp.so.1")  # the one that MXNet's Linux wheel has loaded
    return None


def _raise_limit(mxnet: Any, count: int) -> None:
    """Let MXNet's own kernels use `count` threads, and the engine's threads that start from now on.

    MXNet limits both to half the cores where the variable was not set when it was loaded, and has no call to change that:
    the number is written into its settings, after a look that they are where version 1.9.1 has them.
    """
    library = mxnet.base._LIB
    try:
        get, recommended = (
            library["_ZN5mxnet6engine6OpenMP3GetEv"],
            library["_ZNK5mxnet6engine6OpenMP28GetRecommendedOMPThreadCountEb"],
        )
    except AttributeError:
        return
    if mxnet.__version__ != "1.9.1":
        return
    get.restype = ctypes.c_void_p
    recommended.argtypes = (ctypes.c_void_p, ctypes.c_bool)
    settings = get()
    limit = ctypes.c_int.from_address(settings + _THREAD_LIMIT)
    before = limit.value
    if not 0 < before <= (os.cpu_count() or 1):
        return  # not where it was expected
    limit.value = count
    if recommended(settings, False) > count:
        limit.value = before
