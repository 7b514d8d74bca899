"""The library of native operators: compiled at the first use, kept in the user's cache, loaded once per process."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pathlib
import platform
import re
import shutil
import subprocess
import time

import mxnet as mx

from vargfacenet.errors import DataError, SetupError
from vargfacenet.formats.files import cache_folder, write_text

COMPILERS = ("g++", "c++", "clang++")
# Without -fno-trapping-math, compilers leave loops with conditions, such as PReLU's, unvectorised on AVX2.
FLAGS = ("-shared", "-fPIC", "-std=c++17", "-O3", "-fno-trapping-math", "-fopenmp")
MARCH = "VARGFACENET_MARCH"  # environment variable: the compiler's name of a processor, such as haswell for AVX2 only
MXNET_VERSION = "1.9.1"  # the operators are written for its extension interface
TIME_LIMIT = 300  # seconds for a compilation
_KERNELS = pathlib.Path(__file__).parent / "kernels"

log = logging.getLogger(__name__)


def load_library() -> None:
    """Register the native operators with MXNet, once per process.

    SetupError, where they cannot be compiled or loaded here, states the cause and the remedy.
    """
    reason = _load_once()
    if reason:
        raise SetupError(reason)


def missing_for_native() -> str | None:
    """Return why the native operators cannot be used here and what to do about it, or None where they can."""
    return _load_once()


@functools.cache
def _load_once() -> str | None:
    """Load the library, and return why that failed, or None."""
    try:
        path = library_path()
        if _is_whole(path) and _load_error(path) is None:
            return None
        _compile(path)
        error = _load_error(path)
        return error and f"{path} cannot be loaded: {error}"
    except (SetupError, DataError) as error:
        return str(error)
    except OSError as error:
        return (
            f"cannot write to {cache_folder()}: {error.strerror or error}; set XDG_CACHE_HOME to a folder you may write"
        )


def _load_error(path: pathlib.Path) -> str | None:
    try:
        mx.library.load(str(path), verbose=False)
    except (mx.base.MXNetError, OSError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    return None


def _is_whole(path: pathlib.Path) -> bool:
    """Return whether a library exists and has its checksum: loading a truncated one kills the process."""
    try:
        return path.with_suffix(".sum").read_text(encoding="ascii") == _checksum(path)
    except (OSError, UnicodeDecodeError):
        return False


def _checksum(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flags() -> tuple[str, ...]:
    """Return the compiler's flags: for this processor, or for the one that ``VARGFACENET_MARCH`` names."""
    return (*FLAGS, f"-march={os.environ.get(MARCH) or 'native'}")


def library_path() -> pathlib.Path:
    """Return the path of the library for this source, MXNet and processor."""
    if mx.__version__ != MXNET_VERSION:
        raise SetupError(f"native operators are for MXNet {MXNET_VERSION}, this is {mx.__version__}")
    digest = hashlib.sha256()
    for source in sorted(_KERNELS.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for fact in (*flags(), mx.__version__, os.environ.get("CXX", ""), _processor()):
        digest.update(fact.encode() + b"\0")
    return cache_folder() / f"operators-{digest.hexdigest()[:20]}.so"


def find_compiler() -> str:
    """Return the path of the C++ compiler: ``$CXX``, or the first found; SetupError where there is none."""
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    if chosen:
        raise SetupError(f"the compiler CXX={chosen} is not there: unset CXX, or name one that is")
    raise SetupError("no C++ compiler is found: install g++ (Debian, Ubuntu: apt-get install g++)")


def _compile(path: pathlib.Path) -> None:
    """Write the library to `path` completely or not at all, as other processes may be doing the same."""
    compiler = find_compiler()
    package = pathlib.Path(mx.__file__).parent
    sources = [_KERNELS / "library.cc", package / "src" / "lib_api.cc"]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    command = [compiler, *flags(), f"-I{package / 'include'}", *map(str, sources), "-o", str(temporary)]
    begin = time.time()
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIME_LIMIT)
        # The checksum is written first: a library with another checksum is compiled again.
        write_text(path.with_suffix(".sum"), _checksum(temporary))
        os.replace(temporary, path)
    except subprocess.CalledProcessError as error:
        raise SetupError(f"{compiler} cannot compile the native operators: {_first_error(error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{compiler} took more than {TIME_LIMIT} seconds on the native operators") from error
    finally:
        if temporary.exists():
            temporary.unlink()
    log.info("native operators compiled in %.0f seconds: %s", time.time() - begin, path)


def _processor() -> str:
    """Return the model and the features of the processor as the system reports them."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted(set(re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE))))


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "it gave no reason")
