"""The examples in their small form, on drawn faces."""

import json
import pathlib
import re
import runpy

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.eval import Embedder, read_pairs, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.images import decode_image
from vargfacenet.train import read_config

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A training set and a verification set of drawn faces."""
    helper = runpy.run_path(str(EXAMPLES / "drawn_faces.py"))
    return helper["draw_set"](tmp_path_factory.mktemp("drawn"), identities=4, images=4, pairs=20)


@pytest.fixture
def run_example(monkeypatch, capsys, tmp_path):
    """Run an example as a script and return what it prints."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_is_tested():
    tested = set(re.findall(r'run_example\("(\w+)"', pathlib.Path(__file__).read_text()))
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"drawn_faces"} == tested


def test_own_network_and_loss(run_example, drawn, tmp_path):
    printed = run_example("own_network_and_loss", "--data", drawn, "--out", tmp_path / "own", "--updates", 3)
    assert "latest, epoch 0" in printed
    config = read_config(tmp_path / "own" / "config.json")
    assert (config.network, config.network_options) == ("tiny", {"widths": (16, 32)})
    assert (config.loss, config.loss_options) == ("focal", {"scale": 16.0, "gamma": 1.0})
    saved = mx.nd.load(str(tmp_path / "own" / "latest-0000.params"))
    assert saved["arg:conv2_weight"].shape == (32, 16, 3, 3)
    lines = [json.loads(line) for line in (tmp_path / "own" / "log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 3]


def test_gluon_loop(run_example, drawn, tmp_path):
    prefix = tmp_path / "gluon" / "model"
    printed = run_example("gluon_loop", "--data", drawn, "--out", prefix, "--updates", 12, "--batch-size", 8)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    assert len(losses) == 12
    assert min(losses[-3:]) < losses[0]
    assert "accuracy" in run_example("verify_checkpoint", prefix, "--set", drawn / "drawn.bin")


def test_verify_checkpoint(run_example, drawn):
    printed = run_example("verify_checkpoint", "--set", drawn / "drawn.bin")
    assert re.search(r"vargfacenet-x050 on 20 pairs: accuracy [01]\.\d{5}", printed)


def test_accuracy_by_quality(run_example, teacher_prefix, pairs_file):
    arguments = [teacher_prefix, "--set", pairs_file, "--rows", "as they", "sharp"]
    lines = run_example("accuracy_by_quality", *arguments).splitlines()
    rows = {name.strip(): rates for _, name, *rates, _ in (line.split("|") for line in lines[2:])}
    expected = verify_pairs(Embedder(*load_checkpoint(teacher_prefix, 0)), read_pairs(pairs_file))
    assert rows["as they are"][1].split()[0] == f"{expected.accuracy:.5f}"
    whole, *parts = (int(number) for number, _, _ in rows.values())
    assert (whole, sum(parts), len(parts)) == (40, 40, 3)
    assert min(parts) >= 13


def test_images_are_changed_as_the_rows_of_quality_say(monkeypatch, pairs_set):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    forms = runpy.run_path(str(EXAMPLES / "accuracy_by_quality.py"))["changes"]()
    image = decode_image(pairs_set[0][0], "image").astype(int)
    first = {name: function(image.astype(np.uint8)).astype(int) for name, function in forms}
    np.testing.assert_array_equal(first["as they are"], image)
    np.testing.assert_array_equal(first["brightness 1/4"], image // 4)
    np.testing.assert_array_equal(first["mouth and chin covered"][:75], image[:75])
    assert (first["mouth and chin covered"][75:] == 128).all()
    off = [np.abs(first[name] - image).mean() for name in ("56x56, enlarged", "28x28, enlarged", "14x14, enlarged")]
    assert 0 < off[0] < off[1] < off[2]
    assert 0 < np.abs(first["JPEG, quality 30"] - image).mean() < np.abs(first["JPEG, quality 5"] - image).mean()


def test_distil_student(run_example, drawn, tmp_path):
    printed = run_example("distil_student", "--data", drawn, "--out", tmp_path / "student", "--updates", 2)
    assert re.search(r"generation 1: drawn [\d.]+\ngeneration 2: drawn [\d.]+\nbest student", printed)
    config = read_config(tmp_path / "student" / "generation-2" / "config.json")
    assert (config.embedding_size, config.distillation) == (128, "angular")


def test_deploy(run_example, drawn, tmp_path):
    pytest.importorskip("onnxruntime")
    printed = run_example("deploy", "vargfacenet-x050", tmp_path / "student.onnx")
    assert (tmp_path / "student.onnx").is_file()
    cosines = dict(re.findall(r"(\w+ and \w+): cosine (-?[\d.]+)", printed))
    assert float(cosines["first and second"]) > float(cosines["first and other"])
