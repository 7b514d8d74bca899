"""InsightFace's Python package takes an exported file. It wants another NumPy than MXNet, hence a Python of its own."""

import os
import subprocess

import numpy as np
import pytest

from tests.conftest import picture
from tests.deploy.test_conversion import SMALL, by_stock_calls
from tests.train.tiny import save_random_checkpoint
from vargfacenet.deploy import export_onnx
from vargfacenet.deploy.probe import relative_error

_SCRIPT = """
import sys
import numpy as np
from insightface.model_zoo import get_model

file, pictures, out = sys.argv[1:]
model = get_model(file, providers=["CPUExecutionProvider"])
faces = list(np.load(pictures)[:, :, :, ::-1])  # BGR, as the package reads pictures
np.savez(out, kind=type(model).__name__, many=model.get_feat(faces), one=model.get_feat(faces[0]))
"""


@pytest.fixture(scope="module")
def python():
    """A Python that has the package."""
    found = os.environ.get("VARGFACENET_INSIGHTFACE")
    if not found:
        pytest.skip("set VARGFACENET_INSIGHTFACE to a Python with the packages insightface and onnxruntime")
    return found


@pytest.mark.parametrize("target", ["plain", "insightface"])
@pytest.mark.parametrize(
    ("network", "options"), [("vargfacenet", SMALL), ("resnet18", {"multiplier": 0.25}), ("mobilefacenet", {})]
)
def test_the_package_embeds_as_mxnet_one_picture_and_a_list(python, tmp_path, network, options, target):
    prefix = save_random_checkpoint(tmp_path / "model", network, **options)
    export_onnx(prefix, 0, tmp_path / "model.onnx", target=target)
    faces = np.stack([picture(identity, 0) for identity in range(3)])
    np.save(tmp_path / "faces.npy", faces)
    files = [str(tmp_path / name) for name in ("model.onnx", "faces.npy", "out.npz")]
    subprocess.run([python, "-c", _SCRIPT, *files], check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    expected = by_stock_calls(prefix, 0, faces.transpose(0, 3, 1, 2).astype(np.float32))
    with np.load(tmp_path / "out.npz") as found:
        assert str(found["kind"]) == "ArcFaceONNX"
        assert relative_error(found["many"], expected) < 1e-4
        assert relative_error(found["one"], expected[:1]) < 1e-4
