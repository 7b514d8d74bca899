"""``teach`` and ``train --teacher`` with an ONNX file, and with a checkpoint whose images need another scaling."""

import argparse

import mxnet as mx
import numpy as np
import pytest
from onnx import numpy_helper

from tests.helpers.command_line import refused
from tests.helpers.onnx_models import model
from tests.helpers.training import TINY
from vargfacenet.commands import main
from vargfacenet.commands.teacher_arguments import open_teacher
from vargfacenet.errors import SettingError
from vargfacenet.train.run_log import read_log

SETTINGS = {**TINY, "embedding_size": 8, "max_updates": 2, "color_jitter": 0, "log_every": 1, "generations": 1}


def settings():
    texts = (
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in SETTINGS.items()
    )
    return ["--set", *texts]


def run(*arguments):
    return main(list(map(str, arguments)))


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """An ONNX file that takes scaled images, in the working folder."""
    monkeypatch.chdir(tmp_path)
    filters = np.random.RandomState(0).normal(size=(8, 3, 112, 112)).astype(np.float32) / 1000
    path = tmp_path / "foreign.onnx"
    path.write_bytes(model(weights=[numpy_helper.from_array(filters, "weight")]).SerializeToString())
    return path


def test_a_student_learns_of_an_onnx_file_online_and_cached(capsys, tmp_path, foreign, face_folder, pairs_file):
    assert run("teach", "foreign.onnx", face_folder, "--bgr") == 0
    assert "8 numbers of 24 images and mirrors" in capsys.readouterr().out
    train = ["train", "demo_student", "--data", face_folder, "--teacher", "foreign.onnx"]
    assert run(*train, "--bins", pairs_file, "--bgr", "--cached", "--out", "cached", *settings()) == 0
    table = capsys.readouterr().out.splitlines()
    assert any(line.startswith("teacher ") and "+-" in line for line in table)
    assert run(*train, "--bgr", "--out", "online", *settings()) == 0
    cached, online = (read_log(tmp_path / name) for name in ("cached", "online"))
    assert [line["loss"] for line in cached] == pytest.approx([line["loss"] for line in online], rel=1e-4)
    assert run(*train, "--out", "rgb", *settings()) == 0
    assert abs(read_log(tmp_path / "rgb")[0]["cosine"] - online[0]["cosine"]) > 1e-4


def test_the_remedy_of_a_missing_cache_is_the_command_with_the_scaling(capsys, foreign, face_folder):
    train = ["train", "demo_student", "--data", face_folder, "--teacher", "foreign.onnx", *settings()]
    message = refused(capsys, *train, "--cached", "--input-mean", "0", "--bgr")
    assert f"run: vargfacenet teach foreign.onnx --input-mean 0 --bgr {face_folder}" in message


def test_a_checkpoint_with_another_scaling_teaches(capsys, tmp_path, teacher_prefix, face_folder):
    assert run("teach", teacher_prefix, face_folder, "--out", tmp_path / "rgb") == 0
    assert run("teach", teacher_prefix, face_folder, "--out", tmp_path / "bgr", "--bgr") == 0
    rgb, bgr = (np.load(next((tmp_path / name).glob("*.npy"))) for name in ("rgb", "bgr"))
    assert rgb.shape == bgr.shape == (24, 2, 16)
    assert not np.allclose(rgb, bgr, atol=1e-2)


def test_mistakes_about_onnx_teachers_are_one_line(capsys, tmp_path, foreign, face_folder):
    train = ["train", "demo_student", "--data", face_folder]
    assert "--bgr need --teacher MODEL" in refused(capsys, *train, "--bgr")
    assert "nowhere.onnx" in refused(capsys, *train, "--teacher", "nowhere.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    assert "text.onnx is not an ONNX file" in refused(capsys, *train, "--teacher", "text.onnx")
    assert "the student of 128: give --set embedding_size=8" in refused(capsys, *train, "--teacher", "foreign.onnx")
    assert "faces.jpg is an image and not a model" in refused(capsys, "teach", "faces.jpg", face_folder)
    for option in ("--teacher", "--teacher-network"):
        message = refused(capsys, "plan", "student", option, "foreign.onnx")
        assert "--teacher-network foreign.onnx is an ONNX file: expected the name of a network" in message


def test_an_onnx_file_is_not_run_on_a_gpu(foreign):
    args = argparse.Namespace(input_mean=None, input_std=None, bgr=False)
    with pytest.raises(SettingError, match="foreign.onnx runs in onnxruntime on the CPU; leave out --device"):
        open_teacher(args, str(foreign), device=mx.gpu(0))
