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

images = np.load("faces.npy")
faces = list(images[:, :, :, ::-1])  # BGR, as the package reads images
for name in sys.argv[1:]:
    model = get_model(name + "/model.onnx", providers=["CPUExecutionProvider"])
    ours = Embedder(*load_checkpoint(name + "/model", 0)).embed_batch(images.transpose(0, 3, 1, 2).astype(np.float32))
    kind = type(model).__name__
    np.savez(name + "/out.npz", kind=kind, many=model.get_feat(faces), one=model.get_feat(faces[0]), ours=ours)
"""
OTHERS = [name for name in ("insightface", "torch") if importlib.util.find_spec(name)]
ORDERS = {
    "ours first": ["vargfacenet", "mxnet", *OTHERS],
    "ours last": [*reversed(OTHERS), "vargfacenet", "mxnet"],
}
# Network, options and target of each exported file, by the order of imports in which the package opens it.
FILES = {
    "ours first": [
        ("vargfacenet", SMALL, "plain"),
        ("resnet18", {"multiplier": 0.25}, "insightface"),
        ("mobilefacenet", {"embedding_size": 16}, "insightface"),
    ],
    "ours last": [
        ("vargfacenet", SMALL, "insightface"),
        ("mobilefacenet", {"embedding_size": 16}, "plain"),
    ],
}

pytestmark = pytest.mark.skipif("insightface" not in OTHERS, reason="pip install insightface (Python 3.10 or later)")


@pytest.mark.parametrize("order", ORDERS)
def test_the_package_embeds_as_mxnet_one_image_and_a_list(tmp_path, order):
    faces = np.stack([image(identity, 0) for identity in range(3)])
    np.save(tmp_path / "faces.npy", faces)
    folders = []
    for network, options, target in FILES[order]:
        folders.append(tmp_path / f"{network}-{target}")
        folders[-1].mkdir()
        save_random_checkpoint(folders[-1] / "model", network, **options)
        export_onnx(folders[-1] / "model", 0, folders[-1] / "model.onnx", target=target)
    code = _SCRIPT.format(imports=ORDERS[order])
    command = [sys.executable, "-c", code, *(folder.name for folder in folders)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for folder in folders:
        expected = by_stock_calls(folder / "model", 0, faces.transpose(0, 3, 1, 2).astype(np.float32))
        with np.load(folder / "out.npz") as found:
            assert str(found["kind"]) == "ArcFaceONNX"
            assert relative_error(found["many"], expected) < 1e-4, folder.name
            assert relative_error(found["one"], expected[:1]) < 1e-4, folder.name
            assert relative_error(found["ours"], expected) < 1e-4, folder.name
