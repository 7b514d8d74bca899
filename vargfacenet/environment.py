"""What MXNet needs from its surroundings, set before it is imported and explained when it is missing."""

import contextlib
import ctypes
import os
import platform


def prepare_environment():
    """Sets the variables that MXNet reads once, at its import; what the user has set is left alone.

    MXNet takes one OpenMP thread on a two-core machine; one per usable core is about twice as fast. With several
    devices the trainer keeps the momentum itself, so the parameter store must not. The remark that oneDNN is active,
    printed at every bind, is switched off.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    os.environ.setdefault("MXNET_UPDATE_ON_KVSTORE", "0")
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")


def usable_cores():
    """Number of cores this process may run on (int, at least 1)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name():
    """The processor's model, as far as the system says."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def explain_import_failure(error):
    """What to do about a failed import of MXNet or OpenCV, in one line; None where the error is not of that kind.

    Parameters
    ----------
    error : Exception
        What ``import`` raised.
    """
    text = str(error)
    if isinstance(error, (OSError, ImportError)) and ".so" in text:
        named = text.split(":")[0].strip()
        missing = [library for library in _PACKAGES_OF_LIBRARIES if library == named or not _can_load(library)]
        if named not in missing:
            return f"the system library {named} is missing: install the package that has it"
        packages = " ".join(_PACKAGES_OF_LIBRARIES[library] for library in missing)
        return f"the system lacks {', '.join(missing)}: install it (Debian, Ubuntu: apt-get install {packages})"
    if isinstance(error, AttributeError) and "numpy" in text:
        return "MXNet 1.9.1 needs NumPy below 1.24: run 'make install', or pip install 'numpy==1.23.5'"
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name!r} is missing: run 'make install', or pip install vargfacenet"
    return None


# What MXNet's wheel needs of a Linux system beyond the C library.
_PACKAGES_OF_LIBRARIES = {
    "libgomp.so.1": "libgomp1",
    "libquadmath.so.0": "libquadmath0",
    "libstdc++.so.6": "libstdc++6",
}


def _can_load(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
