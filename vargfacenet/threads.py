"""Set the number of CPU threads that MXNet computes with, whatever the order of imports.

MXNet reads ``OMP_NUM_THREADS`` once, when it is loaded; without it MXNet uses one thread per two cores. The order of
additions depends on the number of threads, so the number affects the last digits of results.
"""

import contextlib
import ctypes
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Optional

_VARIABLE = "OMP_NUM_THREADS"
_CPU = 1  # MXNet's number for this kind of device
_THREAD_LIMIT = 4  # offset in bytes of MXNet 1.9.1's own limit of threads, see `_raise_limit`
_SYNC_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def usable_cores() -> int:
    """Return the number of cores this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wanted_threads() -> int:
    """Return the number that ``OMP_NUM_THREADS`` asks for, or one thread per usable core."""
    first = os.environ.get(_VARIABLE, "").split(",")[0].strip()
    return int(first) if first.isascii() and first.isdecimal() and int(first) > 0 else usable_cores()


def prepare_threads() -> None:
    """Make MXNet use `wanted_threads`: by the environment before it is loaded, and by calls afterwards."""
    wanted = wanted_threads()
    os.environ[_VARIABLE] = str(wanted)  # MXNet ends the process where it is not one whole number
    mxnet = sys.modules.get("mxnet")
    # A module that is still being imported will read the variable.
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
    """Return the number of threads that MXNet computes with on a CPU device; None where it cannot be found."""
    import mxnet

    counts: list[int] = []
    _run_in_worker(mxnet, lambda openmp: counts.append(openmp.omp_get_max_threads()), device_id)
    return counts[0] if counts else None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let MXNet compute with one thread on the first CPU device, where it can be told to.

    The time of the processor is then that of the work: threads that wait for others count as work for some milliseconds.
    """
    import mxnet

    before = threads_in_use()
    if before is None:
        yield
        return
    _run_in_worker(mxnet, lambda openmp: openmp.omp_set_num_threads(1))
    try:
        yield
    finally:
        _run_in_worker(mxnet, lambda openmp: openmp.omp_set_num_threads(before))


def _run_in_worker(mxnet: Any, function: Callable[[ctypes.CDLL], Any], device_id: int = 0) -> None:
    """Call `function` with the OpenMP library in the thread of MXNet's engine that computes for a CPU device.

    OpenMP keeps the number separately for each thread, and MXNet computes in threads of its own, so that calling
    ``MXSetNumOMPThreads`` from Python has no effect there.
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
        mxnet.nd.waitall()  # the callback must not be freed before it has run


def _openmp() -> Optional[ctypes.CDLL]:
    with contextlib.suppress(OSError):
        return ctypes.CDLL("libgomp.so.1")  # the copy that MXNet's Linux wheel has loaded
    return None


def _raise_limit(mxnet: Any, count: int) -> None:
    """Let MXNet's own kernels, and engine threads that start from now on, use `count` threads.

    MXNet limits both to half the cores where the variable was not set when it was loaded, and has no function to change
    the limit. So the number is written into its settings, after checking that they are where version 1.9.1 has them.
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
        return  # the settings have another layout than expected
    limit.value = count
    if recommended(settings, False) > count:
        limit.value = before
