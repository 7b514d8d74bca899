"""Map the top-level folders into one package, so that nothing named `data` or `eval` reaches site-packages.

All metadata is in pyproject.toml.
"""

import pathlib

from setuptools import setup

HERE = pathlib.Path(__file__).parent
FOLDERS = ("operators", "symbols", "data", "launch", "train", "eval", "deploy", "bench", "models")


def packages():
    """Package names and the folder of each, sub-packages included."""
    found = {}
    for folder in ("vargfacenet", *FOLDERS):
        for path in sorted((HERE / folder).rglob("__init__.py")):
            parts = path.parent.relative_to(HERE).parts
            name = ".".join(parts if parts[0] == "vargfacenet" else ("vargfacenet", *parts))
            found[name] = "/".join(parts)
    return found


setup(
    packages=list(packages()),
    package_dir=packages(),
    package_data={
        "vargfacenet.operators": ["kernels/*"],
        "vargfacenet.deploy": ["page/*"],
        "vargfacenet.eval.report": ["page.css"],
        "vargfacenet.bench": ["contenders/*"],
        "vargfacenet.models": ["*.params", "*.json", "*.md", "LICENSE"],
    },
)
