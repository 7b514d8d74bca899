"""Environments for rivals that this project does not depend on: made when asked for, kept in the user's cache."""

import logging
import shutil
import subprocess
import sys

from vargfacenet.errors import SetupError
from vargfacenet.formats.files import cache_folder

_PACKAGES = {
    # PyPI's builds of PyTorch bring gigabytes of CUDA, those of this index do not.
    "pytorch": ("torch==2.13.0", "numpy", "--extra-index-url", "https://download.pytorch.org/whl/cpu"),
    "openvino": ("openvino==2026.4.1",),
}

log = logging.getLogger(__name__)


def rival_python(name, *, install=True):
    """The Python of an environment that has a rival, ``pytorch`` or ``openvino``.

    Without `install`, None where it has not been made; with it, SetupError where it cannot be.
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
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
            raise SetupError(f"{packages[0]} cannot be installed into {folder}: {said[-1]}; leave --rivals out")
    made.touch()
    return python
