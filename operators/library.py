"""The library of native operators: compiled at the first use and kept in the user's cache, or a prebuilt one.

A library is loaded once per process. One that is compiled here is made for this processor, so that it goes before the
prebuilt ones of the package (`vargfacenet.operators.prebuilt`), which are for machines without a compiler.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import platform
import re
from typing import NamedTuple

import mxnet as mx

from vargfacenet import environment
from vargfacenet.errors import DataError, SetupError
from vargfacenet.formats.files import cache_folder
from vargfacenet.operators import prebuilt
from vargfacenet.operators.compiler import FLAGS, compile_library, find_compiler, is_whole, sources_digest

MARCH = "VARGFACENET_MARCH"  # environment variable: the compiler's name of a processor, such as haswell for AVX2 only
MXNET_VERSION = "1.9.1"  # the operators are written for its extension interface

_loaded: set[pathlib.Path] = set()  # MXNet refuses operators that it has registered before


class Library(NamedTuple):
    """The library in use; ``origin`` says in words where it comes from, and why."""

    path: pathlib.Path
    origin: str


def load_library() -> Library:
    """Register the native operators with MXNet, once per process, and return their library.

    SetupError, where there is none that can be loaded here, states the cause and the remedy.
    """
    found = _load_once()
    if isinstance(found, str):
        raise SetupError(found)
    return found


def missing_for_native() -> str | None:
    """Return why the native operators cannot be used here and what to do about it, or None where they can."""
    found = _load_once()
    return found if isinstance(found, str) else None


@functools.cache
def _load_once() -> Library | str:
    """Load a library, and return it, or why there is none."""
    if mx.__version__ != MXNET_VERSION:
        return f"native operators are for MXNet {MXNET_VERSION}, this is {mx.__version__}"
    reason = _load_compiled()
    if reason is None:
        return Library(library_path(), "compiled for this processor")
    found = prebuilt.find(os.environ.get(MARCH))
    if found is None:
        return reason
    if isinstance(found, str):
        return f"{reason}; {found}"
    error = _load_error(found.path)
    if error:
        return f"{reason}; the prebuilt {found.path} cannot be loaded: {error}"
    return Library(found.path, f"prebuilt for {found.target}, as {reason}")


def _load_compiled() -> str | None:
    """Load the library of this processor, compiling it where it is not kept yet; return why that failed, or None."""
    path = library_path()
    try:
        if is_whole(path) and _load_error(path) is None:
            return None
        compile_library(find_compiler(), flags(), path)
        error = _load_error(path)
        return error and f"{path} cannot be loaded: {error}"
    except (SetupError, DataError) as error:
        return str(error)
    except OSError as error:
        return (
            f"cannot write to {cache_folder()}: {error.strerror or error}; set XDG_CACHE_HOME to a folder you may write"
        )


def _load_error(path: pathlib.Path) -> str | None:
    if path in _loaded:
        return None
    try:
        mx.library.load(str(path), verbose=False)
    except (mx.base.MXNetError, OSError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    _loaded.add(path)
    return None


def flags() -> tuple[str, ...]:
    """Return the compiler's flags: for this processor, or for the one that ``VARGFACENET_MARCH`` names."""
    return (*FLAGS, f"-march={os.environ.get(MARCH) or 'native'}")


def library_path() -> pathlib.Path:
    """Return the path of the library that is compiled for this source, MXNet and processor."""
    digest = hashlib.sha256()
    for fact in (sources_digest(), *flags(), mx.__version__, os.environ.get("CXX", ""), processor()):
        digest.update(fact.encode() + b"\0")
    return cache_folder() / f"operators-{digest.hexdigest()[:20]}.so"


def processor() -> str:
    """Return the model and the features of the processor as the system reports them."""
    try:
        text = pathlib.Path(environment.CPU_INFO).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted(set(re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE))))
