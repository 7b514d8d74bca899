"""Commands that embed images give on a device of PyTorch what they give on MXNet's, and one line where there is no GPU."""

import json
import logging

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.helpers.command_line import refused
from tests.helpers.ijb_set import make_ijb_set
from tests.helpers.images import image
from vargfacenet.commands import main
from vargfacenet.deploy import export_onnx
from vargfacenet.deploy.models import open_model
from vargfacenet.eval.features import read_features
from vargfacenet.formats.images import encode_png
from vargfacenet.torch.embed import TorchEmbedder


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Eight images of four identities in folders, with their list."""
    folder, lines = tmp_path_factory.mktemp("listed"), []
    for identity in range(4):
        for number in range(2):
            name = f"faces/{identity}/{number}.png"
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_bytes(encode_png(image(identity, number)))
            lines.append(f"{name} {identity}\n")
    (folder / "list.txt").write_text("".join(lines))
    return folder / "list.txt"


@pytest.fixture
def both(monkeypatch, tmp_path):
    """Run a command in MXNet and in PyTorch on the CPU; the files that it wrote, in this order."""

    def run(*arguments, out):
        files, batches, embed = [], [], TorchEmbedder.embed_batch
        monkeypatch.setattr(TorchEmbedder, "embed_batch", lambda self, images: batches.append(1) or embed(self, images))
        for name in ("mxnet", "torch"):
            if name == "torch":  # as under torchrun, where `cpu:0` is a device of PyTorch
                assert not batches
                monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
            files.append(tmp_path / name)
            given = [str(files[-1] if one is out else one) for one in arguments]
            assert main(given) == 0
        assert batches, "PyTorch embedded nothing"
        return files

    return run


OUT = object()


def test_embed_writes_the_same_embeddings(both, teacher_prefix, listed):
    found = both("embed", teacher_prefix, listed.parent / "faces", "--out", OUT, "--batch-size", "3", out=OUT)
    expected, ours = (np.load(file)["embeddings"] for file in found)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert np.linalg.norm(expected, axis=1) == pytest.approx(1)


def test_challenge_writes_the_same_features(both, teacher_prefix, listed):
    found = both("challenge", "features", teacher_prefix, listed, OUT, "--no-cache", out=OUT)
    expected, ours = (read_features(file)[:] for file in found)
    assert expected.shape == (8, 16)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.slow  # for what follows the embeddings, which all commands open alike
def test_verify_gives_the_same_rates(both, teacher_prefix, pairs_file):
    found = both("verify", teacher_prefix, "--bins", pairs_file, "--no-cache", "--json", OUT, out=OUT)
    expected, ours = (next(iter(json.loads(file.read_text()).values()))["stripes"] for file in found)
    assert expected["pairs"] == 40
    assert {key: ours[key] for key in ("accuracy", "std", "pairs")} == {
        key: expected[key] for key in ("accuracy", "std", "pairs")
    }


@pytest.mark.slow  # for what follows the embeddings, which all commands open alike
def test_ijb_gives_the_same_rates(both, teacher_prefix, tmp_path):
    make_ijb_set(tmp_path / "IJBC")
    found = both("ijb", teacher_prefix, tmp_path / "IJBC", "--no-cache", "--json", OUT, out=OUT)
    expected, ours = (json.loads(file.read_text()) for file in found)
    assert ours["templates"] == expected["templates"] == 36
    assert numbers(ours) == pytest.approx(numbers(expected), abs=1e-4)


def numbers(value):
    """All numbers in a result, in its order."""
    if isinstance(value, (dict, list)):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [float(value)] if isinstance(value, (int, float)) else []


def test_teach_stores_the_same_embeddings(both, teacher_prefix, face_folder):
    found = both("teach", teacher_prefix, face_folder, "--out", OUT, out=OUT)
    expected, ours = (np.load(next(folder.glob("*.npy"))) for folder in found)
    assert expected.size == 24 * 2 * 16
    np.testing.assert_allclose(ours.astype(np.float32), expected.astype(np.float32), atol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "MODEL", "LIST", "--out", "x.npz"],
        ["challenge", "features", "MODEL", "LIST", "f.bin"],
        ["verify", "MODEL", "--bins", "PAIRS"],
        ["ijb", "MODEL", "FOLDER"],
        ["teach", "MODEL", "FOLDER"],
        ["identify", "MODEL", "--gallery", "FOLDER", "--probes", "FOLDER"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_gpu_that_is_not_there_is_one_line(
    capsys, arguments, teacher_prefix, listed, pairs_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = {"MODEL": teacher_prefix, "LIST": listed, "PAIRS": pairs_file, "FOLDER": listed.parent / "faces"}
    said = refused(capsys, *(given.get(one, one) for one in arguments), "--device", "cuda:0")
    assert "device cuda:0: PyTorch sees 0 GPU(s) here; 'vargfacenet doctor' says more" in said
    assert not list(tmp_path.iterdir())


def test_an_onnx_file_on_a_gpu_says_that_it_runs_on_the_cpu(teacher_prefix, tmp_path, caplog):
    file = tmp_path / "model.onnx"
    export_onnx(teacher_prefix, 0, file)
    for device in (mx.cpu(), torch.device("cpu", 0)):
        open_model(file, device=device)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        open_model(file, device=torch.device("cuda", 1))
    assert "model.onnx: ONNX files run on the CPU here, not on cuda:1" in caplog.text
