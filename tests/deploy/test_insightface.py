"""InsightFace's Python package takes an exported file, in one process with this package and, where it is, PyTorch."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.networks import SMALL, by_stock_calls, save_random_checkpoint
from vargfacenet.deploy import export_onnx
from vargfacenet.deploy.probe import relative_error

_SCRIPT = """
import importlib
import sys

for name in {imports!r}:
    importlib.import_module(name)

import numpy as np
from insightface.model_zoo import get_model

from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.eval import Embedder

file, prefix, images, out = sys.argv[1:]
model = get_model(file, providers=["CPUExecutionProvider"])
faces = list(np.load(images)[:, :, :, ::-1])  # BGR, as the package reads images
ours = Embedder(*load_checkpoint(prefix, 0)).embed_batch(np.load(images).transpose(0, 3, 1, 2).astype(np.float32))
kind = type(model).__name__
np.savez(out, kind=kind, many=model.get_feat(faces), one=model.get_feat(faces[0]), ours=ours)
"""
OTHERS = [name for name in ("insightface", "torch") if importlib.util.find_spec(name)]
ORDERS = [["vargfacenet", "mxnet", *OTHERS], [*reversed(OTHERS), "vargfacenet", "mxnet"]]

pytestmark = pytest.mark.skipif("insightface" not in OTHERS, reason="pip install insightface (Python 3.10 or later)")


@pytest.mark.parametrize(
    ("network", "options", "target", "imports"),
    [
        ("vargfacenet", SMALL, "plain", ORDERS[0]),
        ("vargfacenet", SMALL, "insightface", ORDERS[1]),
        ("resnet18", {"multiplier": 0.25}, "insightface", ORDERS[0]),
        ("mobilefacenet", {}, "plain", ORDERS[1]),
        ("mobilefacenet", {}, "insightface", ORDERS[0]),
    ],
)
def test_the_package_embeds_as_mxnet_one_image_and_a_list(tmp_path, network, options, target, imports):
    prefix = save_random_checkpoint(tmp_path / "model", network, **options)
    export_onnx(prefix, 0, tmp_path / "model.onnx", target=target)
    faces = np.stack([image(identity, 0) for identity in range(3)])
    np.save(tmp_path / "faces.npy", faces)
    files = [str(tmp_path / "model.onnx"), str(prefix), str(tmp_path / "faces.npy"), str(tmp_path / "out.npz")]
    code = _SCRIPT.format(imports=imports)
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = by_stock_calls(prefix, 0, faces.transpose(0, 3, 1, 2).astype(np.float32))
    with np.load(tmp_path / "out.npz") as found:
        assert str(found["kind"]) == "ArcFaceONNX"
        assert relative_error(found["many"], expected) < 1e-4
        assert relative_error(found["one"], expected[:1]) < 1e-4
        assert relative_error(found["ours"], expected) < 1e-4
