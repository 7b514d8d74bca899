"""What MXNet needs from its surroundings, set before it is imported and explained when it is missing."""

import os


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


def explain_import_failure(error):
    """What to do about a failed import of MXNet or OpenCV, in one line; None where the error is not of that kind.

    Parameters
    ----------
    error : Exception
        What ``import`` raised.
    """
    text = str(error)
    if isinstance(error, (OSError, ImportError)) and ".so" in text:
        library = text.split(":")[0].strip()
        remedy = _PACKAGES_OF_LIBRARIES.get(library)
        where = (
            f"install it (Debian, Ubuntu: apt-get install {remedy})" if remedy else "install the package that has it"
        )
        return f"the system library {library} is missing: {where}"
    if isinstance(error, AttributeError) and "numpy" in text:
        return "MXNet 1.9.1 needs NumPy below 1.24: run 'make install', or pip install 'numpy==1.23.5'"
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name!r} is missing: run 'make install', or pip install vargfacenet"
    return None


_PACKAGES_OF_LIBRARIES = {
    "libgomp.so.1": "libgomp1",
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libstdc++.so.6": "libstdc++6",
    "libquadmath.so.0": "libquadmath0",
    "libgfortran.so.3": "libgfortran5",
}
