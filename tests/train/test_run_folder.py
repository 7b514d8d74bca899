"""The folder of a run: locked, checked without writing, read once, and taken up where an earlier version wrote it."""

import hashlib
import json
import pathlib

import pytest

from tests.helpers.training import newest_state, stopped_after, tiny
from vargfacenet.errors import DataError, SettingError
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.files import alone_in, digest
from vargfacenet.train import training_state
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume, RunFolder

# As version 1 of the states was written before images, identities and settings had their names of today.
RECORDED = pathlib.Path(__file__).parent / "recorded" / "state.json"


@pytest.fixture(scope="module")
def half_done(tmp_path_factory, face_folder):
    """The folder of a run that was stopped after its first save, at update 3 of 6."""
    out = tmp_path_factory.mktemp("half") / "run"
    with stopped_after(4):
        train(tiny(), data=face_folder, out=out)
    return out


@pytest.fixture
def copied(half_done, tmp_path):
    """A copy of it, to be changed."""
    return copy_tree(half_done, tmp_path / "copy")


def copy_tree(source, target):
    for path in sorted(source.rglob("*")):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def contents(folder):
    """Bytes and time of every file below a folder."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def in_recorded_shape(out, **data):
    """Rewrites the facts of a run's only state with the names, and no others, of the recorded one; `data` replaces facts."""
    recorded = json.loads(RECORDED.read_text())
    (path,) = (out / "states").glob("*.json")
    state = json.loads(path.read_text())
    facts = {**state["data"], "pictures": state["data"]["images"], **data}
    old = {name: state[name] for name in recorded}
    settings = state["settings"]
    flat = {**settings, **settings["network_options"], **settings["loss_options"]}
    renamed = {"keep": "keep_states", "lr_steps": "lr_milestones", "generation_lr": "generation_lr_factor"}
    old["settings"] = {name: flat.get(renamed.get(name, name)) for name in recorded["settings"]}
    old["data"] = {name: facts[name] for name in recorded["data"]}
    text = json.dumps(old, sort_keys=True).encode()
    path.write_text(json.dumps({**old, "digest": hashlib.blake2b(text, digest_size=32).hexdigest()}))


def test_a_run_that_an_earlier_version_started_ends_bit_for_bit_as_the_whole_one(face_folder, copied, tmp_path):
    in_recorded_shape(copied)
    assert "images" not in json.loads(next((copied / "states").glob("*.json")).read_text())["data"]
    assert train(tiny(), data=face_folder, out=copied, resume=Resume(must=True)).updates == 3
    train(tiny(), data=face_folder, out=tmp_path / "whole")
    whole, resumed = newest_state(tmp_path / "whole"), newest_state(copied)
    assert {name: value.asnumpy().tobytes() for name, value in whole.items()} == {
        name: value.asnumpy().tobytes() for name, value in resumed.items()
    }


def test_what_differs_from_a_run_of_an_earlier_version_has_its_name_of_today(face_folder, copied):
    in_recorded_shape(copied, pictures=23)
    with pytest.raises(SettingError, match=r"on other data \(images: 23 then, 24 now\)"):
        train(tiny(), data=face_folder, out=copied, resume=Resume())


def test_a_setting_that_did_not_exist_yet_counts_as_its_default(copied):
    (path,) = (copied / "states").glob("*.json")
    state = json.loads(path.read_text())
    del state["settings"]["alpha"], state["digest"]
    text = json.dumps(state, sort_keys=True).encode()
    path.write_text(json.dumps({**state, "digest": hashlib.blake2b(text, digest_size=32).hexdigest()}))
    RunFolder(copied).check(tiny(), resume=Resume())
    with pytest.raises(SettingError, match=r"alpha: 7.0 then, 3.0 now"):
        RunFolder(copied).check(tiny(alpha=3.0), resume=Resume())


def test_resuming_starts_a_run_where_there_is_none_unless_there_must_be_one(face_folder, tmp_path):
    config, out = tiny(max_updates=2), tmp_path / "out"
    with pytest.raises(SettingError, match="holds no run to resume"):
        train(config, data=face_folder, out=out, resume=Resume(must=True))
    assert not out.exists()
    assert train(config, data=face_folder, out=out, resume=Resume()).updates == 2


def test_checking_writes_nothing(copied):
    for path in copied.glob("latest-*"):
        path.unlink()
    before = contents(copied)
    RunFolder(copied).check(tiny(), resume=Resume())
    with pytest.raises(SettingError, match="already holds a run"):
        RunFolder(copied).check(tiny())
    with pytest.raises(SettingError, match="lr: 0.05 then, 0.1 now"):
        RunFolder(copied).check(tiny(lr=0.1), resume=Resume())
    finished = tiny(max_updates=3)
    assert RunFolder(copied).is_finished(finished)
    with pytest.raises(SettingError, match=r"is finished \(3 updates\)"):
        RunFolder(copied).check_unfinished(finished)
    assert contents(copied) == before


def test_checkpoints_of_a_finished_run_are_restored_under_the_lock(copied):
    for path in copied.glob("latest-*"):
        path.unlink()
    finished = tiny(max_updates=3)
    with (
        pytest.raises(SettingError, match="is finished"),
        RunFolder(copied).open(finished, resume=Resume(force=True)),
    ):
        pass
    load_checkpoint(copied / "latest", 0)


def test_a_folder_is_locked_before_it_is_read(face_folder, copied):
    with alone_in(copied), pytest.raises(DataError, match="another process is at work"):
        train(tiny(lr=0.1), data=face_folder, out=copied, resume=Resume())  # with settings that are not the run's


def test_a_state_is_read_and_digested_once(face_folder, copied, monkeypatch):
    digested, read = [], []
    load = training_state.load_params
    monkeypatch.setattr(training_state, "digest", lambda path: digested.append(path) or digest(path))
    monkeypatch.setattr(training_state, "load_params", lambda path: read.append(path) or load(path))
    with stopped_after(0):
        train(tiny(), data=face_folder, out=copied, resume=Resume())
    assert [path.name for path in digested] == [path.name for path in read] == ["update-000000003.params"]


def test_a_run_of_other_generations_is_not_mixed_with_this_one(half_done, tmp_path, teacher, face_folder):
    several = tiny("demo_student", generations=2)
    with pytest.raises(
        SettingError, match="holds a run of one generation; several generations need a run of their own"
    ):
        RunFolder(half_done, 2).check(several, resume=Resume())
    copy_tree(half_done, tmp_path / "generation-1")
    with pytest.raises(SettingError, match="holds a run of several generations; give the same generations"):
        RunFolder(tmp_path).check(tiny(), resume=Resume())
