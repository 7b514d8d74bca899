"""The teacher's classifier: found in its run or named, and refused where it does not fit."""

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.training import newest_state, of_teacher, tiny
from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.train.embedder_teacher import EmbedderTeacher
from vargfacenet.train.run import train
from vargfacenet.train.teacher import Teacher
from vargfacenet.train.teacher_classifier import read_classifier

SHARDED = {"head": "sharded"}


@pytest.mark.parametrize("head", [{}, SHARDED], ids=["dense", "sharded"])
def test_the_classifier_is_found_in_the_run_that_trained_the_teacher(head, face_folder, tmp_path):
    network = {"network": "resnet18", "multiplier": 0.25, "units": None, "use_se": None}
    train(tiny("demo_teacher", **network, max_updates=2, **head), data=face_folder, out=tmp_path / "teacher")
    weight = newest_state(tmp_path / "teacher")["arg:fc7_weight/0" if head else "arg:fc7_weight"].asnumpy()
    teacher = Teacher(tmp_path / "teacher" / "latest")
    config = of_teacher(loss="arcdistill", max_updates=2)
    train(config, data=face_folder, out=tmp_path / "student", teacher=teacher)
    np.testing.assert_array_equal(newest_state(tmp_path / "student")["arg:fc7_weight"].asnumpy(), weight)


def test_a_teacher_that_is_no_checkpoint_brings_its_classifier_or_is_refused(
    face_folder, teacher, classifier, tmp_path
):
    other = EmbedderTeacher(teacher.embedder(), "x", argument=str(tmp_path / "x.onnx"))
    config, given = of_teacher(loss="margin_distillation", max_updates=1, warmup_updates=0), {"data": face_folder}
    with pytest.raises(SettingError, match="holds no classifier of the teacher"):
        train(config, out=tmp_path / "one", teacher=other, **given)
    train(config, out=tmp_path / "two", teacher=other.with_classifier_in(classifier), **given)
    found = newest_state(tmp_path / "two")["arg:fc7_weight"].asnumpy()
    np.testing.assert_array_equal(found, np.load(classifier))
    steps = of_teacher(distillation="embedding_error", teacher_epochs=True)
    with pytest.raises(SettingError, match="needs a checkpoint of the teacher for each"):
        train(steps, out=tmp_path / "three", teacher=other, **given)


def test_a_classifier_is_read_from_a_params_file(tmp_path):
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name in ("arg:fc7_weight", "fc7_weight"):
        mx.nd.save(str(tmp_path / "model-0001.params"), {name: mx.nd.array(weight)})
        np.testing.assert_array_equal(read_classifier(tmp_path / "model-0001.params", 3, 4), weight)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: None, SettingError, "holds no classifier of the teacher: give --teacher-classifier"),
        (lambda path: path.mkdir(), SettingError, "holds no classifier of the teacher"),
        (lambda path: path.write_bytes(b"no array"), CheckpointError, "is not an .npy file that can be read"),
        (lambda path: np.save(path, np.ones((4, 8))), SettingError, r"has shape \(4, 8\), expected \(4, 16\)"),
        (lambda path: np.save(path, np.full((4, 16), np.nan)), CheckpointError, "holds NaN or infinity"),
        (
            lambda path: np.save(path, np.array([{}]), allow_pickle=True),
            CheckpointError,
            "is not an .npy file that can be read",
        ),
    ],
)
def test_a_classifier_that_does_not_fit_is_refused(make, error, message, tmp_path):
    path = tmp_path / "fc7.npy"
    make(path)
    with pytest.raises(error, match=message):
        read_classifier(path, 4, 16)
