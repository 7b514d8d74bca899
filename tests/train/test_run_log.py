"""The log of a run, its table and its TensorBoard files say the same, also after a stop and a resumption."""

import csv
import json
import struct
import sys
import types

import pytest

from tests.helpers.training import stopped_after, tiny
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import RunLog, cut_log, read_log


def table(out):
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def as_text(lines):
    names = list(dict.fromkeys(name for line in lines for name in line))
    return [{name: str(line.get(name, "")) for name in names} for line in lines]


def test_the_table_of_a_resumed_run_is_its_log(face_folder, tmp_path):
    with stopped_after(5):
        train(tiny(), data=face_folder, out=tmp_path)
    assert [row["update"] for row in table(tmp_path)] == ["2", "4"]
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("5,cut off by a st")
    train(tiny(), data=face_folder, out=tmp_path, resume=Resume())
    assert [row["update"] for row in table(tmp_path)] == ["2", "4", "6"]
    assert table(tmp_path) == as_text(read_log(tmp_path))


def test_a_name_that_appears_later_gets_a_column(tmp_path):
    log = RunLog(tmp_path)
    lines = [{"update": 1, "loss": 2.5}, {"update": 2, "loss": 2.25, "bad_images": 3}, {"update": 3, "loss": 2.0}]
    for line in lines:
        log.append(line)
        assert table(tmp_path) == as_text(read_log(tmp_path))
    log.close()
    assert read_log(tmp_path) == lines
    cut_log(tmp_path, 1)
    assert table(tmp_path) == [{"update": "1", "loss": "2.5"}]


class Recorder:
    """Stands for tensorboardX.SummaryWriter."""

    made = []

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, {}, False
        self.made.append(self)

    def add_scalar(self, tag, value, step):
        assert (tag, step) not in self.scalars
        self.scalars[tag, step] = value

    def flush(self):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Recorder))
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder


def expected(out, first=1):
    found = {
        (f"train/{name}", line["update"]): value
        for line in read_log(out)
        for name, value in line.items()
        if name != "update"
    }
    for update, sets in json.loads((out / "verification.json").read_text()).items():
        for name, score in sets.items():
            found[f"{name}/accuracy", int(update)] = score["accuracy"]
            if score["tar"]["0.001"] is not None:
                found[f"{name}/TAR at FAR 0.001", int(update)] = score["tar"]["0.001"]
    return {key: value for key, value in found.items() if key[1] >= first or (first == 1 and key[1] == 0)}


def test_tensorboard_receives_the_log_and_the_scores(face_folder, pairs_file, tmp_path, recorder):
    config = tiny(callbacks="tensorboard")
    with stopped_after(5):
        train(config, data=face_folder, out=tmp_path, bins=[pairs_file])
    train(config, data=face_folder, out=tmp_path, bins=[pairs_file], resume=Resume())
    first, second = recorder.made
    assert first.folder == second.folder == str(tmp_path / "tensorboard")
    assert (first.purge_step, first.closed, second.closed) == (None, True, True)
    assert {step for _, step in first.scalars} == {0, 2, 3, 4}
    resumed = second.purge_step
    assert resumed > 3
    assert second.scalars == expected(tmp_path, resumed)
    kept = {key: value for key, value in first.scalars.items() if key[1] < resumed}
    assert {**kept, **second.scalars} == expected(tmp_path)


def test_without_the_package_a_run_is_trained_and_says_so(face_folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    train(tiny(callbacks="tensorboard"), data=face_folder, out=tmp_path)
    assert caplog.text.count("pip install 'vargfacenet[tensorboard]'") == 1
    assert not (tmp_path / "tensorboard").exists()
    assert len(read_log(tmp_path)) == 3


def test_tensorboard_is_off_by_default(face_folder, tmp_path, recorder):
    train(tiny(), data=face_folder, out=tmp_path)
    assert recorder.made == []


def test_event_files_hold_the_values(face_folder, tmp_path):
    """The records of the file: length, its checksum, the event, its checksum."""
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install 'vargfacenet[tensorboard]'")
    from tensorboardX.proto.event_pb2 import Event

    train(tiny(callbacks="tensorboard"), data=face_folder, out=tmp_path)
    (path,) = (tmp_path / "tensorboard").iterdir()
    content, found = path.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        content = content[16 + length :]
    for line in read_log(tmp_path):
        assert found["train/loss", line["update"]] == pytest.approx(line["loss"], rel=1e-6)
        assert found["train/lr", line["update"]] == pytest.approx(line["lr"], rel=1e-6)
