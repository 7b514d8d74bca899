"""Compile the kernels with a C++ compiler, for this machine or for another."""

from __future__ import annotations

import hashlib
import logging
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Sequence

import mxnet as mx

from vargfacenet.errors import SetupError
from vargfacenet.formats.files import write_text

COMPILERS = ("g++", "c++", "clang++")
# Without -fno-trapping-math, compilers leave loops with conditions, such as PReLU's, unvectorised on AVX2.
FLAGS = ("-shared", "-fPIC", "-std=c++17", "-O3", "-fno-trapping-math", "-fopenmp")
TIME_LIMIT = 300  # seconds for a compilation
_KERNELS = pathlib.Path(__file__).parent / "kernels"

log = logging.getLogger(__name__)


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


def sources_digest() -> str:
    """Return a digest of the kernels' source, which is their version."""
    digest = hashlib.sha256()
    for source in sorted(_KERNELS.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def compile_library(compiler: str, flags: Sequence[str], path: pathlib.Path) -> None:
    """Write the library to `path` completely or not at all, as other processes may be doing the same; SetupError."""
    package = pathlib.Path(mx.__file__).parent
    sources = [_KERNELS / "library.cc", package / "src" / "lib_api.cc"]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    command = [compiler, *flags, f"-I{package / 'include'}", *map(str, sources), "-o", str(temporary)]
    begin = time.time()
    log.info("compiling the native operators, once for this version and processor: about half a minute")
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


def is_whole(path: pathlib.Path) -> bool:
    """Return whether a library exists and has its checksum: loading a truncated one kills the process."""
    try:
        return path.with_suffix(".sum").read_text(encoding="ascii") == _checksum(path)
    except (OSError, UnicodeDecodeError):
        return False


def _checksum(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "it gave no reason")
