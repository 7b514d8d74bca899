"""``vargfacenet teach`` and ``train --teacher``: from a teacher's checkpoint to the table at the end."""

import signal

import mxnet as mx
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import image
from tests.helpers.networks import save_random_checkpoint
from tests.helpers.training import TINY
from vargfacenet.commands import main
from vargfacenet.commands import train as train_command
from vargfacenet.data.writer import write_records
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.train.config import resolve
from vargfacenet.train.run_log import read_log
from vargfacenet.train.stopping import Stopping
from vargfacenet.train.training_state import TrainingStates

SETTINGS = [
    f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in TINY.items()
]
SETTINGS = [*SETTINGS, "max_updates=3", "color_jitter=0"]


def settings(*more):
    given = dict(assignment.split("=") for assignment in (*SETTINGS, *more))
    return ["--set", *(f"{name}={value}" for name, value in given.items())]


def run(*arguments):
    return main(list(map(str, arguments)))


def test_teach_then_train_from_the_cache(capsys, tmp_path, monkeypatch, teacher_prefix, face_folder, pairs_file):
    monkeypatch.chdir(tmp_path)
    assert run("teach", teacher_prefix, face_folder) == 0
    assert "16 numbers of 24 images and mirrors" in capsys.readouterr().out
    taught = ["train", "demo_student", "--data", face_folder, "--teacher", teacher_prefix]
    given = settings("log_every=1", "lr=0")
    assert run(*taught, "--bins", pairs_file, "--cached", *given, "--out", "cached") == 0
    table = capsys.readouterr().out.splitlines()
    labels = [line.split("  ")[0] for line in table if "+-" in line]
    assert labels == [
        "untrained",
        "generation 1, after 3 updates (best)",
        "generation 2, after 3 updates (best)",
        "teacher",
    ]
    assert run(*taught, *given, "--out", "online") == 0
    for generation in ("generation-1", "generation-2"):
        cached, online = (read_log(tmp_path / name / generation) for name in ("cached", "online"))
        for one, other in zip(cached, online):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert run("verify", tmp_path / "cached" / "best", "--bins", pairs_file) == 0


SMALL_TEACHER = {"network": "resnet18", "multiplier": 0.25, "embedding_size": 16, "batch_size": 8, "max_updates": 2}


def test_a_demo_without_a_teacher_trains_one_and_keeps_it(capsys, tmp_path, monkeypatch, face_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vargfacenet.train.recipes.demo_teacher.recipe", SMALL_TEACHER)
    monkeypatch.setattr(train_command, "_builtin_faces", lambda: face_folder)
    arguments = ["train", "demo_student", *settings("generations=1")]
    assert run(*arguments) == 0
    state = tmp_path / "runs" / "demo_teacher" / "states" / "update-000000002.params"
    made = state.stat().st_mtime_ns
    assert run(*arguments) == 0
    assert state.stat().st_mtime_ns == made
    assert (tmp_path / "runs" / "demo_student-2" / "latest-0000.params").is_file()
    monkeypatch.setattr("vargfacenet.train.recipes.demo_teacher.recipe", {**SMALL_TEACHER, "lr": 0.2})
    capsys.readouterr()
    message = refused(capsys, *arguments)
    assert "lr: 0.1 then, 0.2 now" in message
    assert "or give --teacher runs/demo_teacher/latest to learn from it" in message


def test_a_demo_that_is_stopped_while_its_teacher_trains_continues_by_the_command_that_it_names(
    capsys, tmp_path, monkeypatch, face_folder
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vargfacenet.train.recipes.demo_teacher.recipe", SMALL_TEACHER)
    monkeypatch.setattr(train_command, "_builtin_faces", lambda: face_folder)
    arguments = ["train", "demo_student", *settings("generations=1"), "--out", "runs/demo"]
    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "__enter__", lambda self: setattr(self, "signal", signal.SIGINT) or self)
        patch.setattr(Stopping, "__exit__", lambda *_: None)
        assert run(*arguments) == 130
    assert "after update 1 of 2, saved in runs/demo_teacher; --resume continues" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 0
    assert TrainingStates(tmp_path / "runs" / "demo_teacher").updates()[-1] == 2
    assert TrainingStates(tmp_path / "runs" / "demo").updates()[-1] == 3
    latest = tmp_path / "runs" / "demo" / "latest-0000.params"
    trained = latest.read_bytes()
    latest.unlink()
    capsys.readouterr()
    assert "runs/demo is finished" in refused(capsys, *arguments, "--resume")
    assert latest.read_bytes() == trained


def test_the_teacher_of_other_faces_is_not_taken(capsys, tmp_path, monkeypatch, face_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vargfacenet.train.recipes.demo_teacher.recipe", SMALL_TEACHER)
    monkeypatch.setattr(train_command, "_builtin_faces", lambda: face_folder)
    write_records(tmp_path / "mine", ((n // 2, encode_jpeg(image(n // 2, n % 2))) for n in range(8)))
    given = settings("generations=1", "batch_size=4")
    assert run("train", "demo_student", "--data", tmp_path / "mine", *given) == 0
    assert (tmp_path / "runs" / "demo_student" / "teacher" / "latest-0000.params").is_file()
    assert run("train", "demo_student", *given) == 0
    monkeypatch.setattr(train_command, "_builtin_faces", lambda: tmp_path / "mine")
    capsys.readouterr()
    assert "runs/demo_teacher was started on other data" in refused(capsys, "train", "demo_student", *given)


def test_what_is_wrong_with_a_student_is_said_before_its_teacher_is_trained(capsys, tmp_path, monkeypatch, face_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_command, "train", None)  # whoever trains now fails
    train = ["train", "demo_student", "--data", face_folder]
    assert "give --set embedding_size=128" in refused(capsys, *train, *settings("embedding_size=64"))
    assert "batch_size=32 is more than the 24 images" in refused(capsys, *train)
    assert "holds no run to resume" in refused(capsys, *train, "--resume=must")
    with pytest.raises(SystemExit, match="2"):
        run("train", "--resume", "demo_student")
    assert "write --resume after the recipe, or --resume=must" in capsys.readouterr().err
    (tmp_path / "runs" / "used" / "states").mkdir(parents=True)
    (tmp_path / "runs" / "used" / "states" / "update-000000002.json").touch()
    assert "already holds a run" in refused(capsys, *train, "--out", "runs/used")


def test_verification_sets_that_data_folders_have_alike_count_once(tmp_path, pairs_file):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lfw.bin").write_bytes(pairs_file.read_bytes())
    (tmp_path / "b" / "cfp.bin").write_bytes(b"another")
    found = train_command._bins_beside([tmp_path / "a", tmp_path / "b", tmp_path / "nowhere"])
    assert found == [tmp_path / "a" / "lfw.bin", tmp_path / "b" / "cfp.bin"]


def test_the_demo_teacher_and_student_fit_together():
    teacher, student = resolve(train_command.DEMO_TEACHER), resolve("demo_student")
    assert teacher.embedding_size == student.embedding_size
    assert not teacher.distils


def test_mistakes_about_teachers_are_one_line(capsys, tmp_path, monkeypatch, teacher_prefix, face_folder):
    monkeypatch.chdir(tmp_path)
    train = ["train", "demo_student", "--data", face_folder]
    assert "--cached needs --teacher MODEL" in refused(capsys, *train, "--cached")
    assert "no checkpoint file nowhere-symbol.json" in refused(capsys, *train, "--teacher", "nowhere")
    taught = [*train, "--teacher", teacher_prefix]
    assert "--teacher-epoch=-1: expected between 0" in refused(capsys, *taught, "--teacher-epoch", "-1")
    assert "student of 128: give --set embedding_size=16" in refused(capsys, *taught)
    message = refused(capsys, *taught, *settings(), "--cached")
    assert "holds no embeddings of a teacher; run: vargfacenet teach" in message
    assert "--teacher-epoch needs --teacher" in refused(capsys, *train, "--teacher-epoch", "3")
    assert "batch_size=1: expected a multiple of the number of devices (2)" in refused(
        capsys, *taught, *settings("batch_size=1"), "--device", "cpu:0,cpu:1"
    )
    assert "device 'cpu:0,cpu:1': expected one" in refused(
        capsys, "teach", teacher_prefix, face_folder, "--device", "cpu:0,cpu:1"
    )
    assert "needs a teacher: give --teacher" in refused(capsys, "train", "student", "--data", face_folder)
    assert "has nothing to teach" in refused(
        capsys, "train", "student_scratch", "--data", face_folder, "--teacher", teacher_prefix
    )
    assert "did you mean 'angular'" in refused(capsys, *taught, "--set", "distillation=angle")
    assert "loss=none without distillation leaves nothing to learn" in refused(
        capsys, *taught, "--set", "loss=none", "distillation=none"
    )


def test_a_stale_cache_is_one_line(capsys, tmp_path, monkeypatch, teacher_prefix, face_folder):
    monkeypatch.chdir(tmp_path)
    assert run("teach", teacher_prefix, face_folder, "--out", "cache") == 0
    capsys.readouterr()
    other = save_random_checkpoint(tmp_path / "other", "resnet18", seed=1, multiplier=0.25, embedding_size=16)
    train = ["train", "demo_student", "--data", face_folder, "--teacher", other, *settings()]
    assert "cache is stale: its embeddings are of" in refused(capsys, *train, "--cached", "cache")


def test_a_teacher_without_some_parameters_is_one_line(capsys, tmp_path, teacher_prefix, face_folder):
    saved = mx.nd.load(f"{teacher_prefix}-0000.params")
    del saved["arg:pre_fc1_bias"]
    mx.nd.save(str(tmp_path / "model-0000.params"), saved)
    (tmp_path / "model-symbol.json").write_bytes(teacher_prefix.with_name("model-symbol.json").read_bytes())
    assert "lacks 1 parameter(s) of its graph: pre_fc1_bias" in refused(
        capsys, "train", "demo_student", "--data", face_folder, "--teacher", tmp_path / "model"
    )
