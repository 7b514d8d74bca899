"""The states of a run on disk: complete or absent, the last few and the best, checked, and gone back from when damaged."""

import errno
import json
import logging
import os

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.training import parameters, stopped_after, tiny
from vargfacenet.data.writer import write_records
from vargfacenet.errors import CheckpointError, DataError, SettingError
from vargfacenet.formats.checkpoint import checkpoint_files, load_checkpoint, save_checkpoint
from vargfacenet.formats.files import alone_in, remove_leftovers
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.symbols import get_symbol
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.trainer import Trainer
from vargfacenet.train.training_state import TrainingStates

ARRAYS = {"arg:w": mx.nd.array([[1.0, 2.0], [3.0, 4.0]]), "momentum:w": mx.nd.zeros((2, 2))}


@pytest.fixture
def states(tmp_path):
    """Those after updates 3, 6 and 9, all kept."""
    states = TrainingStates(tmp_path)
    for update in (3, 6, 9):
        states.save(update, {**ARRAYS, "arg:w": ARRAYS["arg:w"] * update}, {"note": update}, keep=3)
    return states


def names(folder):
    return sorted(path.name for path in (folder / "states").iterdir())


def test_a_state_comes_back_as_it_was_saved(states):
    assert states.newest().facts["note"] == 9
    arrays = states.newest().load_arrays()
    np.testing.assert_array_equal(arrays["arg:w"].asnumpy(), 9 * ARRAYS["arg:w"].asnumpy())
    assert set(arrays) == set(ARRAYS)


def test_the_last_few_and_the_best_are_kept(tmp_path):
    states = TrainingStates(tmp_path)
    for update in range(1, 7):
        states.save(update, ARRAYS, {}, keep=2, best=2 if update > 1 else None)
    assert states.updates() == [2, 5, 6]
    assert len(names(tmp_path)) == 6


def test_states_newer_than_the_one_that_is_saved_are_dropped(states):
    states.save(5, ARRAYS, {}, keep=2)
    assert states.updates() == [3, 5]


@pytest.mark.parametrize("name", ["update-000000009.params", "update-000000009.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_damage_is_found_and_the_state_before_it_used_aloud(states, tmp_path, caplog, name, damage):
    path = tmp_path / "states" / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[: {"cut": len(content) - 2, "empty": 0}.get(damage, len(content))])
    with caplog.at_level(logging.WARNING):
        assert states.newest().update == 6
    # Without its second file a state was never there.
    assert ("using the state after update 6 instead" in caplog.text) == (
        not (damage == "remove" and name.endswith("json"))
    )


def test_when_all_are_damaged_it_says_so(states, tmp_path):
    for path in (tmp_path / "states").glob("*.params"):
        path.write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"no state in .*states is sound \(.*0 bytes, expected .*'latest' and 'best'"
    ):
        states.newest()
    with pytest.raises(CheckpointError, match="holds no training state"):
        TrainingStates(tmp_path / "nowhere").newest()


def test_a_file_that_cannot_be_removed_is_named(states, tmp_path):
    (tmp_path / "states" / "update-000000001.params").mkdir()
    with pytest.raises(DataError, match="cannot remove .*update-000000001.params"):
        states.save(12, ARRAYS, {}, keep=1)
    assert states.newest().update == 12


def test_a_state_of_another_version_is_refused(states, tmp_path, monkeypatch):
    monkeypatch.setattr("vargfacenet.train.training_state._VERSION", 99)
    with pytest.raises(CheckpointError, match="was written by another version of this package"):
        states.read(9)


def test_what_a_kill_left_half_written_is_removed(states, tmp_path):
    (tmp_path / "states" / ".update-000000012.params.77.tmp").write_text("half")
    (tmp_path / "states" / "update-000000012.params").write_text("without its facts")
    (tmp_path / ".notes.tmp").write_text("somebody's own")
    assert states.newest().update == 9
    states.save(12, ARRAYS, {}, keep=1)
    assert names(tmp_path) == ["update-000000012.json", "update-000000012.params"]
    remove_leftovers(tmp_path)
    assert (tmp_path / ".notes.tmp").exists()


def fails(monkeypatch, number):
    """Every call of the system's that puts something on the disk fails from the given one on."""
    calls = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def failing(name):
        def call(*arguments):
            calls.append(name)
            if len(calls) >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real[name](*arguments)

        return call

    for name in real:
        monkeypatch.setattr(os, name, failing(name))


@pytest.mark.parametrize("number", range(1, 7))
def test_a_disk_that_is_full_at_any_step_of_a_save_leaves_the_states_before(states, tmp_path, monkeypatch, number):
    with monkeypatch.context() as patch:
        fails(patch, number)
        with pytest.raises(DataError, match=r"cannot write .*update-000000012.* No space left on device"):
            states.save(12, ARRAYS, {"note": 12}, keep=2)
    assert states.newest().update == (12 if number == 6 else 9)  # the last is the flush of the folder
    assert set(states.updates()) >= {3, 6, 9}


@pytest.mark.parametrize("number", range(1, 8))
def test_a_checkpoint_of_another_graph_is_never_half_there(tmp_path, monkeypatch, number):
    """Graph and parameters are two files: a stop between leaves the old pair, the new one, or none that loads."""

    def network(activation):
        symbol = get_symbol("vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=8, activation=activation)
        args, _, auxs = symbol.infer_shape(data=(1, 3, 112, 112))
        return (
            symbol,
            {name: mx.nd.ones(shape) for name, shape in zip(symbol.list_arguments(), args) if name != "data"},
            {name: mx.nd.ones(shape) for name, shape in zip(symbol.list_auxiliary_states(), auxs)},
        )

    old, new = network("prelu"), network("relu")
    save_checkpoint(tmp_path / "model", 0, *old)
    before = [path.read_bytes() for path in checkpoint_files(tmp_path / "model", 0)]
    with monkeypatch.context() as patch:
        fails(patch, number)
        try:
            save_checkpoint(tmp_path / "model", 0, *new)
        except DataError:
            assert number < 7
    symbol_file, params_file = checkpoint_files(tmp_path / "model", 0)
    if params_file.exists():
        now = [symbol_file.read_bytes(), params_file.read_bytes()]
        assert now == before or mx.sym.load(str(symbol_file)).tojson() == new[0].tojson()
        if now != before:
            assert set(load_checkpoint(tmp_path / "model", 0).args) == set(new[1])


# Whole runs.


def run(face_folder, out, **options):
    return train(tiny(save_every=2, keep=2), data=face_folder, out=out, **options)


def test_a_run_goes_on_from_the_state_before_a_damaged_one_and_ends_alike(face_folder, pairs_file, tmp_path, caplog):
    settings = {"data": face_folder, "bins": [pairs_file]}
    config = tiny(max_updates=8, save_every=2, verify_every=3)
    train(config, out=tmp_path / "whole", **settings)
    with stopped_after(7):
        train(config, out=tmp_path / "broken", **settings)
    path = tmp_path / "broken" / "states" / "update-000000006.params"
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        resumed = train(config, out=tmp_path / "broken", resume=Resume(), **settings)
    assert resumed.updates == 4
    assert "update-000000006.params is damaged" in caplog.text
    assert "using the state after update 4 instead" in caplog.text
    for name in ("latest", "best"):
        whole, broken = parameters(tmp_path / "whole", name), parameters(tmp_path / "broken", name)
        assert {key: value.tobytes() for key, value in whole.items()} == {
            key: value.tobytes() for key, value in broken.items()
        }
    assert names(tmp_path / "whole") == names(tmp_path / "broken")
    scores = [(tmp_path / name / "verification.json").read_bytes() for name in ("whole", "broken")]
    assert scores[0] == scores[1]


def test_checkpoints_are_made_those_of_the_state_that_is_gone_on_from(face_folder, tmp_path):
    with stopped_after(4):
        run(face_folder, tmp_path)
    kept = (tmp_path / "latest-0000.params").read_bytes()
    (tmp_path / "latest-0000.params").write_bytes(b"half")
    (tmp_path / "latest-symbol.json").unlink()
    with stopped_after(0):
        run(face_folder, tmp_path, resume=Resume())
    assert (tmp_path / "latest-0000.params").read_bytes() == kept
    load_checkpoint(tmp_path / "latest", 0)


def test_a_state_that_is_not_finite_is_not_saved(face_folder, tmp_path, monkeypatch):
    state = Trainer.state

    def poisoned(self):
        arrays = state(self)
        if TrainingStates(tmp_path).updates() == [2]:
            arrays["momentum:fc7_weight"] = arrays["momentum:fc7_weight"] * np.inf
        return arrays

    monkeypatch.setattr(Trainer, "state", poisoned)
    with pytest.raises(CheckpointError, match="update 4: momentum:fc7_weight holds NaN or infinity; try a smaller lr"):
        run(face_folder, tmp_path)
    assert TrainingStates(tmp_path).updates() == [2]


def test_two_runs_in_one_folder_are_kept_apart(face_folder, tmp_path):
    with (
        alone_in(tmp_path),
        pytest.raises(DataError, match="another process is at work in .*: wait for it, or stop it"),
    ):
        run(face_folder, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write .*file"):
        run(face_folder, tmp_path / "file")


def test_a_changed_recipe_is_named_and_may_be_forced(face_folder, tmp_path, caplog):
    with stopped_after(4):
        run(face_folder, tmp_path)
    changed = tiny(save_every=2, lr=0.01, max_updates=7)
    given = {"data": face_folder, "out": tmp_path}
    with pytest.raises(
        SettingError, match=r"max_updates: 6 then, 7 now; lr: 0.05 then, 0.01 now\); give .* or --force"
    ):
        train(changed, resume=Resume(), **given)
    with caplog.at_level(logging.WARNING):
        assert train(changed, resume=Resume(force=True), **given).updates == 3
    assert "continues with the new ones: max_updates: 6 then, 7 now; lr: 0.05 then, 0.01 now" in caplog.text
    assert TrainingStates(tmp_path).newest().facts["settings"]["lr"] == 0.01


def test_force_ends_where_arrays_do_not_fit(face_folder, tmp_path, teacher):
    with stopped_after(4):
        run(face_folder, tmp_path)
    before = names(tmp_path)
    given = {"data": face_folder, "out": tmp_path, "resume": Resume(force=True)}
    with pytest.raises(
        CheckpointError, match=r"the state in .*: pre_fc1_weight has shape \(16, 512\), its graph expects"
    ):
        train(tiny(embedding_size=8), **given)
    with pytest.raises(CheckpointError, match=r"the state in .* lacks .* vargface_stage_2_unit_2"):
        train(tiny(units=(2, 1, 1)), **given)
    write_records(tmp_path / "others", ((n // 3, encode_jpeg(image(n // 3, n % 3))) for n in range(9)))
    with pytest.raises(
        CheckpointError, match=r"another network.*: fc7_weight has shape \(4, 16\) in it, expected \(3, 16"
    ):
        train(tiny(), **{**given, "data": tmp_path / "others"})
    with pytest.raises(CheckpointError, match=r"the network lacks fc7_weight"):
        train(tiny("demo_student", generations=1, loss="none"), **given, teacher=teacher)
    assert names(tmp_path) == before


# Faults of the disk while a run is on.


def test_facts_of_a_state_are_json_that_can_be_read(states, tmp_path):
    facts = json.loads((tmp_path / "states" / "update-000000009.json").read_text())
    assert {"version", "update", "bytes", "blake2b", "digest", "note"} == set(facts)
