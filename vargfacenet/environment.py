"""Prepare the process for MXNet before it is imported, and explain what is missing where the import fails."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import sys

from vargfacenet import compatibility
from vargfacenet.threads import prepare_threads, usable_cores

OLDEST_PYTHON, NEWEST_PYTHON = (3, 9), (3, 14)
CPU_INFO = "/proc/cpuinfo"
INSTALL_MXNET = "pip install --no-deps mxnet==1.9.1"  # its metadata forbids NumPy 2, which it runs on with this package


__all__ = ["explain_import_failure", "prepare_environment", "processor_name", "usable_cores"]


def prepare_environment() -> None:
    """Make MXNet importable, and set the variables that it reads once, at its import, unless the user has set them.

    By default MXNet uses one OpenMP thread on a two-core machine; one per usable core is about twice as fast. With several
    devices the trainer keeps the momentum itself, so the parameter store must not.

    MXNet copies arrays of more than MXNET_CPU_PARALLEL_SIZE numbers by a team of OpenMP threads of its own. With a second
    team in the process OpenMP puts idle threads to sleep at once, and waking them for the next operator takes longer than
    a small operator does. Therefore copies take one thread.

    The message that oneDNN is active, printed at every bind, is switched off. So is the telemetry of onnxruntime, whose
    wheels keep a device's number in the user's cache and may send events: whoever compares faces expects nothing to leave
    the machine.

    OpenBLAS, which NumPy and SciPy bring, reads one of them when it is loaded: how long its threads wait for more work
    before they sleep, as a power of 2 of cycles. Its default is 26, some 25 ms at full load, which take a third of a core
    from training where an update has one small product in NumPy.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "10")
    compatibility.install()
    os.environ.setdefault("MXNET_UPDATE_ON_KVSTORE", "0")
    os.environ.setdefault("MXNET_CPU_PARALLEL_SIZE", str(2**31 - 1))
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    prepare_threads()


def python_problem() -> str | None:
    """Return what is wrong with the version of this Python, or None where the package supports it."""
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return None
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST_PYTHON, NEWEST_PYTHON))
    return f"Python {platform.python_version()} is not supported: make the environment with Python {oldest} to {newest}"


def processor_name() -> str:
    """Return the model of the processor as the system reports it."""
    with contextlib.suppress(OSError), open(CPU_INFO, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def processor_flags() -> set[str]:
    """Return the features of the processor by the system's names, such as avx2; none where the system names none."""
    flags: set[str] = set()
    with contextlib.suppress(OSError), open(CPU_INFO, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                flags.update(line.partition(":")[2].split())
    return flags


def instruction_sets() -> str:
    """Return the vector instructions that speed depends on and the processor has, and what limits their use here."""
    known = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd")
    flags = processor_flags()
    limits = [
        f"{name}={os.environ[name]}" for name in ("VARGFACENET_MARCH", "DNNL_MAX_CPU_ISA") if os.environ.get(name)
    ]
    found = " ".join(name for name in known if name in flags) or "not known"
    return f"{found} ({' '.join(limits)})" if limits else found


def explain_import_failure(error: Exception) -> str | None:
    """Return in one line what to do about a failed import of MXNet or OpenCV; None for another kind of error."""
    text = str(error)
    if isinstance(error, (OSError, ImportError)) and ".so" in text:
        named = text.split(":")[0].strip()
        missing = [library for library in _PACKAGES_OF_LIBRARIES if library == named or not _can_load(library)]
        if named not in missing:
            return f"the system library {named} is missing: install the package that has it"
        packages = " ".join(_PACKAGES_OF_LIBRARIES[library] for library in missing)
        return f"the system lacks {', '.join(missing)}: install it (Debian, Ubuntu: apt-get install {packages})"
    if isinstance(error, AttributeError) and re.search(r"module 'numpy\S*' has no attribute", text):
        return (
            f"MXNet 1.9.1 looks for a name that this NumPy has removed ({text}): import vargfacenet before mxnet, or run "
            "'make install'"
        )
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        remedy = {"mxnet": INSTALL_MXNET, "distutils": "pip install setuptools"}.get(package, "pip install vargfacenet")
        return f"the Python package {error.name!r} is missing: run 'make install', or {remedy}"
    return None


# Libraries that MXNet's wheel needs on a Linux system in addition to the C library, and their Debian packages.
_PACKAGES_OF_LIBRARIES = {
    "libgomp.so.1": "libgomp1",
    "libquadmath.so.0": "libquadmath0",
    "libstdc++.so.6": "libstdc++6",
}


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
