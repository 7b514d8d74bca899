"""Environments for rivals that this project does not depend on: made when asked for, kept in the user's cache."""

import logging
import shutil
import subprocess
import sys

from vargfacenet.errors import SetupError
from vargfacenet.operators.library import cache_folder

PYTORCH = ("torch==2.13.0", "numpy<2")
_CPU_BUILDS = "https://download.pytorch.org/whl/cpu"  # PyPI's bring gigabytes of CUDA

log = logging.getLogger(__name__)


def pytorch_python(*, install=True):
    """The Python of an environment that has PyTorch.

    Without `install`, None where it has not been made; with it, SetupError where it cannot be.
    """
    folder = cache_folder() / "rivals" / PYTORCH[0]
    python, made = folder / "bin" / "python", folder / "made"
    if made.exists():
        return python
    if not install:
        return None
    log.info("installing %s into %s", PYTORCH[0], folder)
    shutil.rmtree(folder, ignore_errors=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*install, "--extra-index-url", _CPU_BUILDS, *PYTORCH],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
            raise SetupError(f"{PYTORCH[0]} cannot be installed into {folder}: {said[-1]}; leave --rivals out")
    made.touch()
    return python
