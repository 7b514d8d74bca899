"""Native operators that were compiled before, for machines without a compiler; the best one that a processor can run.

``make operators`` (`vargfacenet.operators.build`) writes them into the folder ``prebuilt``, from where wheels take them. The
name of a file has a target, and the version of the kernels: others are never loaded.
"""

from __future__ import annotations

import hashlib
import pathlib
import platform
from typing import NamedTuple

import mxnet as mx

from vargfacenet.environment import processor_flags
from vargfacenet.operators.compiler import FLAGS, is_whole, sources_digest

FOLDER = pathlib.Path(__file__).parent / "prebuilt"
_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm", "xsave"}


class Target(NamedTuple):
    """Processors to compile for: ``march`` is the compiler's name of them, ``needs`` are features by the system's names."""

    name: str
    machine: str
    march: str
    needs: frozenset[str]


class Prebuilt(NamedTuple):
    """A library that fits this processor."""

    path: pathlib.Path
    target: str


# The best first. Levels of x86-64 are those of its psABI.
TARGETS = (
    Target(
        "x86-64-v4",
        "x86_64",
        "x86-64-v4",
        frozenset(_V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ),
    Target("x86-64-v3", "x86_64", "x86-64-v3", frozenset(_V3)),
    Target("aarch64", "aarch64", "armv8-a", frozenset({"asimd"})),
)


def find(march: str | None = None) -> Prebuilt | str | None:
    """Return the best prebuilt library for this processor, a reason why none fits, or None where there are none.

    `march` limits the choice to the target of that name.
    """
    if not list(FOLDER.glob("*.so")):
        return None
    flags, machine = processor_flags(), platform.machine()
    for target in TARGETS:
        path = path_of(target)
        fits = target.machine == machine and target.needs <= flags and march in (None, "", target.march)
        if fits and is_whole(path):
            return Prebuilt(path, target.name)
    names = sorted(path.stem.rpartition("-")[0] for path in FOLDER.glob("*.so") if path.stem.endswith(version()))
    if not names:
        return "the prebuilt operators are of another version: reinstall the package, or run 'make operators'"
    wanted = f" and {march} alone" if march else ""
    return f"the prebuilt operators are for {', '.join(names)}, not for this processor ({machine}){wanted}"


def path_of(target: Target) -> pathlib.Path:
    """Return the path of the library for a target and this version of the kernels."""
    return FOLDER / f"{target.name}-{version()}.so"


def version() -> str:
    """Return the version of prebuilt libraries: their source, their flags and MXNet's version."""
    facts = (sources_digest(), *FLAGS, *(target.march for target in TARGETS), mx.__version__)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
