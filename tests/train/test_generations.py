"""Recursive distillation: what passes from one generation to the next, and how a stopped run goes on."""

import json
import pathlib
import shutil
from typing import NamedTuple

import numpy as np
import pytest

from tests.helpers.training import before_each_step, newest_state, parameters, stopped_after, tiny
from vargfacenet.data.batches import sample_order
from vargfacenet.errors import SettingError
from vargfacenet.eval import Embedder, read_pairs, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.train.generation_folder import best_generation
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume, RunFolder
from vargfacenet.train.run_log import read_log
from vargfacenet.train.teacher import Teacher


def two(**settings):
    return tiny("demo_student", generations=2, **settings)


class Seen(NamedTuple):
    """What a run trained on, and with: numbers of its images in order, and the state that each generation began with."""

    images: list
    first_states: list


def watched(patch):
    """Return what the next run is seen to do, filled as it trains."""
    seen = Seen([], [])

    def watch(trainer, batch):
        seen.images.extend(batch.index.tolist())
        if not hasattr(trainer, "seen"):
            trainer.seen = True
            seen.first_states.append({name: value.asnumpy().copy() for name, value in trainer.state().items()})

    before_each_step(patch, watch)
    return seen


@pytest.fixture(scope="module")
def finished_and_seen(tmp_path_factory, face_folder, pairs_file, teacher):
    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        seen = watched(patch)
        return train(two(), data=face_folder, out=out, bins=[pairs_file], teacher=teacher), seen


@pytest.fixture(scope="module")
def finished(finished_and_seen):
    return finished_and_seen[0]


@pytest.fixture
def copied(finished, tmp_path):
    """The folder of a copy of the finished run."""
    return pathlib.Path(shutil.copytree(finished.out, tmp_path / "out"))


def test_each_generation_leaves_checkpoint_config_log_and_verification(finished):
    assert finished.updates == 12
    assert [one.out.name for one in finished.generations] == ["generation-1", "generation-2"]
    for one in finished.generations:
        for name in ("latest", "best"):
            load_checkpoint(one.out / name, 0)
        assert json.loads((one.out / "config.json").read_text())["generations"] == 2
        assert [line["update"] for line in read_log(one.out)] == [2, 4, 6]
        assert list(one.verifications) == [0, 3, 6]


def test_the_log_shows_both_losses_and_the_cosine(finished):
    line = read_log(finished.generations[1].out)[-1]
    assert {"loss", "identity_loss", "distillation_loss", "cosine", "accuracy", "lr"} <= set(line)
    assert line["loss"] == pytest.approx(line["identity_loss"] + two().alpha * line["distillation_loss"], rel=1e-4)
    assert line["distillation_loss"] == pytest.approx(2 * (1 - line["cosine"]), abs=1e-4)


def test_the_score_a_generation_begins_with_is_that_of_the_student_before_it(finished, pairs_file):
    first, second = finished.generations
    embedder = Embedder(*load_checkpoint(first.out / "latest", 0))
    assert second.verifications[0]["stripes"] == verify_pairs(embedder, read_pairs(pairs_file)).as_dict()


def test_the_data_goes_on_where_the_generation_before_stopped(finished_and_seen):
    finished, seen = finished_and_seen
    assert seen.images == [int(row) for epoch in range(4) for row in sample_order(24, 0, epoch)]
    assert [line["epoch"] for line in read_log(finished.out / "generation-2")] == [2, 3, 4]


def test_the_schedule_begins_anew(finished):
    first, second = ([line["lr"] for line in read_log(one.out)] for one in finished.generations)
    assert first == second
    assert first[0] > first[-1]


def test_the_run_keeps_the_last_student_and_the_best(finished):
    last, best = parameters(finished.out), parameters(finished.out, "best")
    for name, value in parameters(finished.generations[1].out).items():
        np.testing.assert_array_equal(last[name], value)
    for name, value in parameters(best_generation(finished.generations).out, "best").items():
        np.testing.assert_array_equal(best[name], value)


def test_the_teacher_is_scored_once(finished, teacher):
    about = json.loads((finished.out / "teacher-verification.json").read_text())
    assert about["fingerprint"] == teacher.fingerprint
    assert list(about["scores"].values()) == [finished.teacher["stripes"]]
    assert 0 <= finished.teacher["stripes"]["accuracy"] <= 1


@pytest.mark.parametrize("classifier", ["keep", "new"])
def test_weights_pass_on_momentum_does_not_and_the_classifier_is_a_choice(
    monkeypatch, finished_and_seen, teacher, face_folder, tmp_path, classifier
):
    finished, seen = finished_and_seen
    out = finished.out
    if classifier != two().classifier:
        out, seen = tmp_path / "out", watched(monkeypatch)
        train(two(classifier=classifier), data=face_folder, out=out, teacher=teacher)
    first, second = seen.first_states
    left = newest_state(out / "generation-1")
    assert any(name.startswith("momentum:") for name in left)
    assert all(not value.any() for name, value in second.items() if name.startswith("momentum:"))
    for name, value in second.items():
        if name.startswith(("arg:", "aux:")):
            kept = np.array_equal(value, left[name].asnumpy())
            assert kept == (classifier == "keep" or not name.startswith("arg:fc7")), name
    assert not np.array_equal(
        second["arg:fc7_weight"], first["arg:fc7_weight"]
    )  # neither kept by mistake nor redrawn alike


def test_later_generations_may_have_another_learning_rate(teacher, face_folder, tmp_path):
    config = two(generation_lr_factor=0.1, max_updates=2, log_every=1)
    train(config, data=face_folder, out=tmp_path / "out", teacher=teacher)
    first, second = (read_log(tmp_path / "out" / f"generation-{number}") for number in (1, 2))
    assert [line["lr"] for line in second] == pytest.approx([0.1 * line["lr"] for line in first])


def test_a_run_stopped_in_any_generation_ends_as_the_unbroken_one(finished, face_folder, pairs_file, teacher, tmp_path):
    """Stopped before its first save, between the generations, and in the second before and after a save."""
    arguments = {"data": face_folder, "out": tmp_path / "out", "bins": [pairs_file], "teacher": teacher}
    with stopped_after(2):
        train(two(), **arguments)
    with pytest.raises(SettingError, match="holds no run to resume"):
        train(two(), **arguments, resume=Resume(must=True))
    for stop, saved in ((6, 0), (8, 6), (10, 6)):
        with stopped_after(stop - saved):
            train(two(), **arguments, resume=Resume() if saved > 0 else None)
    result = train(two(), **arguments, resume=Resume())
    assert result.updates == 3
    for number in (1, 2):
        whole, broken = (parameters(out / f"generation-{number}") for out in (finished.out, tmp_path / "out"))
        for name in whole:
            np.testing.assert_array_equal(whole[name], broken[name], err_msg=name)
        assert result.generations[number - 1].verifications == finished.generations[number - 1].verifications


def test_a_finished_run_may_be_given_more_generations(finished, copied, face_folder, pairs_file, teacher):
    arguments = {"data": face_folder, "out": copied, "bins": [pairs_file], "teacher": teacher}
    with pytest.raises(SettingError, match=r"is finished \(2 generations of 6 updates\)"):
        train(two(), **arguments, resume=Resume())
    more = train(tiny("demo_student", generations=3), **arguments, resume=Resume())
    assert more.updates == 6
    assert len(more.generations) == 3
    for name, value in parameters(finished.generations[1].out).items():
        np.testing.assert_array_equal(parameters(copied / "generation-2")[name], value)


def test_resuming_with_another_teacher_is_refused(copied, teacher, face_folder, pairs_file):
    other = Teacher(teacher.prefix)
    other.fingerprint = "0" * 32
    config, arguments = tiny("demo_student", generations=3), {"data": face_folder, "bins": [pairs_file]}
    with pytest.raises(SettingError, match="started on other data .teacher: .* then, 0000"):
        train(config, **arguments, out=copied, teacher=other, resume=Resume())


def test_distillation_alone_trains_without_a_classifier(teacher, face_folder, tmp_path):
    config = tiny("demo_student", generations=2, loss="none", alpha=1.0, max_updates=20, lr=0.1)
    train(config, data=face_folder, out=tmp_path / "out", teacher=teacher)
    state = newest_state(tmp_path / "out" / "generation-2")
    assert not any("fc7" in name for name in state)
    lines = read_log(tmp_path / "out" / "generation-1") + read_log(tmp_path / "out" / "generation-2")
    assert set(lines[0]) == {
        "update",
        "epoch",
        "loss",
        "distillation_loss",
        "cosine",
        "lr",
        "images_per_second",
        "waiting",
    }
    assert lines[-1]["cosine"] > lines[0]["cosine"] + 0.3


def test_a_run_of_generations_is_not_overwritten(finished, face_folder):
    for config in (two(), tiny("demo_student", generations=1), tiny()):
        with pytest.raises(SettingError, match="already holds a run; give --resume"):
            RunFolder(finished.out, config.generations).check(config)


def test_a_run_of_one_generation_cannot_become_one_of_more(teacher, face_folder, tmp_path):
    train(tiny("demo_student", generations=1, max_updates=2), data=face_folder, out=tmp_path / "out", teacher=teacher)
    with pytest.raises(
        SettingError, match="holds a run of one generation; several generations need a run of their own"
    ):
        train(two(max_updates=2), data=face_folder, out=tmp_path / "out", teacher=teacher, resume=Resume())


def test_checkpoints_that_a_stop_left_out_are_made_good(copied, teacher, face_folder, pairs_file):
    kept = parameters(copied)
    for path in copied.glob("latest-*"):
        path.unlink()
    with pytest.raises(SettingError, match="is finished"):
        train(two(), data=face_folder, out=copied, bins=[pairs_file], teacher=teacher, resume=Resume())
    for name, value in parameters(copied).items():
        np.testing.assert_array_equal(value, kept[name])


def test_the_largest_seed_has_generations(teacher, face_folder, tmp_path):
    config = two(seed=2**32 - 1, max_updates=1, warmup_updates=0)
    assert train(config, data=face_folder, out=tmp_path / "out", teacher=teacher).updates == 2
