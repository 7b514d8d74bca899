"""Environments for rivals that this project does not depend on: made on request, kept in the user's cache."""

import logging
import pathlib
import shutil
import subprocess
import sys
from typing import Optional

from vargfacenet.errors import SetupError
from vargfacenet.formats.files import cache_folder

_PACKAGES = {
    # PyPI's builds of PyTorch include gigabytes of CUDA; those of this index do not.
    "pytorch": ("torch==2.13.0", "numpy", "--extra-index-url", "https://download.pytorch.org/whl/cpu"),
    "openvino": ("openvino==2026.4.1",),
}

log = logging.getLogger(__name__)


def rival_python(name: str, *, install: bool = True) -> Optional[pathlib.Path]:
    """Return the Python of an environment that has a rival, ``pytorch`` or ``openvino``.

    A missing environment is installed, with SetupError where that fails; without `install` the result is then None.
    """
    packages = _PACKAGES[name]
    folder = cache_folder() / "rivals" / packages[0]
    python, made = folder / "bin" / "python", folder / "made"
    if made.exists():
        return python
    if not install:
        return None
    log.info("installing %s into %s", packages[0], folder)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *packages]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            raise SetupError(f"{packages[0]} cannot be installed into {folder}: {said[-1]}; leave --rivals out")
    made.touch()
    return python
