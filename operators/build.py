"""Compile the native operators for other machines, for wheels: ``python -m vargfacenet.operators.build``."""

import pathlib
import platform
import shutil
import sys

from vargfacenet.environment import prepare_environment
from vargfacenet.errors import SetupError
from vargfacenet.operators import prebuilt
from vargfacenet.operators.compiler import FLAGS, compile_library, find_compiler, is_whole
from vargfacenet.operators.prebuilt import TARGETS, Target, path_of


def build(target: Target) -> pathlib.Path:
    """Compile the library for a target; SetupError if no compiler for it is found."""
    path = path_of(target)
    if not is_whole(path):
        compile_library(_compiler(target.machine), (*FLAGS, f"-march={target.march}"), path)
    return path


def main() -> int:
    """Compile for all targets that there is a compiler for, and remove libraries of other versions."""
    status = 0
    for target in TARGETS:
        try:
            sys.stdout.write(f"{target.name}: {build(target)}\n")
        except SetupError as error:
            status = status or int(target.machine == platform.machine())
            sys.stdout.write(f"{target.name}: left out, {error}\n")
    kept = {path_of(target).stem for target in TARGETS}
    for path in prebuilt.FOLDER.glob("*"):
        if path.stem not in kept:
            path.unlink()
    return status


def _compiler(machine: str) -> str:
    if machine == platform.machine():
        return find_compiler()
    name = f"{machine}-linux-gnu-g++"
    found = shutil.which(name)
    if found is None:
        raise SetupError(f"{name} is not found: install g++-{machine.replace('_', '-')}-linux-gnu")
    return found


if __name__ == "__main__":
    prepare_environment()
    raise SystemExit(main())
