"""A run is checked against its data and the machine before it begins."""

import logging
import re

import mxnet as mx
import pytest

from tests.helpers.networks import save_random_checkpoint
from tests.helpers.training import tiny
from vargfacenet.commands import main
from vargfacenet.errors import SettingError
from vargfacenet.train import plan_check
from vargfacenet.train.plan import Workload
from vargfacenet.train.plan_check import check_run, warn_of_epochs, workload
from vargfacenet.train.run import train
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.teacher import Teacher
from vargfacenet.train.training_data import open_data

FACES = Workload(identities=4, images=24)


@pytest.fixture
def small_machine(monkeypatch):
    """A machine with 100 MiB to spare."""
    monkeypatch.setattr(plan_check, "free_memory", lambda: 100 << 20)


def test_a_batch_larger_than_the_set_is_refused_before_anything_is_read_or_written(face_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("vargfacenet.data.batches.BatchReader.read", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(
        SettingError, match="batch_size=60000 is more than the 24 images .* give --set batch_size=24 or"
    ):
        train(tiny(batch_size=60_000), data=face_folder, out=tmp_path / "out")
    with pytest.raises(SettingError, match="batch_size=27 is more .* give --set batch_size=24 or less"):
        check_run(tiny(batch_size=27), FACES, Runtime([mx.cpu(0), mx.cpu(1), mx.cpu(2)]))
    assert not (tmp_path / "out").exists()
    # The size that the error names is accepted.
    assert check_run(tiny(batch_size=24), FACES, Runtime()).fits


def test_what_does_not_fit_is_refused_with_what_would_and_a_way_past_it(
    face_folder, tmp_path, small_machine, capsys, monkeypatch
):
    settings = [f"{name}={value}" for name, value in {"multiplier": 0.5, "max_updates": 1, "batch_size": 24}.items()]
    command = ["train", "demo_student_scratch", "--data", str(face_folder), "--out", str(tmp_path / "out"), "--set"]
    assert main([*command, *settings]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    needed = float(re.search(r"the machine needs (\d+\.\d+) GiB, there are 0.10 GiB; ", error)[1])
    monkeypatch.setattr(plan_check, "free_memory", lambda: int(0.8 * needed * 2**30))
    assert main([*command, *settings]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "; what would fit: batch_size=" in error
    assert "--set check_memory=false starts all the same" in error
    assert not (tmp_path / "out").exists()
    size = error.partition("batch_size=")[2].split()[0]
    assert check_run(tiny(multiplier=0.5, batch_size=size), FACES, Runtime()).fits
    assert main([*command, *settings, "units=1,1,1", "check_memory=false"]) == 0
    assert (tmp_path / "out" / "latest-0000.params").exists()


def test_a_network_that_no_machine_holds_is_refused_before_its_graph_is_built(face_folder, tmp_path, monkeypatch):
    """Of five billion parameters: binding it would end this process."""
    monkeypatch.setattr(mx.mod.Module, "bind", lambda *_, **__: pytest.fail("a graph was bound"))
    monkeypatch.setattr(mx.sym.Symbol, "simple_bind", lambda *_, **__: pytest.fail("a graph was bound"))
    monkeypatch.setattr("vargfacenet.train.graph_memory.free_memory", lambda: 8 << 30)
    monkeypatch.setattr(plan_check, "free_memory", lambda: 8 << 30)
    config = tiny(multiplier=40, units=(3, 7, 4), embedding_size=512)
    with pytest.raises(
        SettingError, match=r"the network's parameters alone need \d\d\.\d\d GiB: give a smaller network"
    ):
        train(config, data=face_folder, out=tmp_path / "out")


def test_the_teacher_that_embeds_each_batch_counts_and_a_stored_one_does_not(face_folder, tmp_path, teacher):
    config = tiny("demo_student", generations=1)
    with open_data(face_folder) as data:
        online, stored = (workload(config, data, one) for one in (teacher, teacher.stored_in(tmp_path)))
    assert (online.identities, online.images, stored.teacher) == (4, 24, None)
    plans = [check_run(config, one, Runtime()) for one in (online, stored)]
    assert plans[0].total - plans[1].total == plans[0].device["teacher"] > 0
    wide = Teacher(save_random_checkpoint(tmp_path / "wide", "resnet18", multiplier=0.5, embedding_size=16))
    with open_data(face_folder) as data:
        assert check_run(config, workload(config, data, wide), Runtime()).device["teacher"] > plans[0].device["teacher"]


def test_workers_of_one_machine_share_its_memory(monkeypatch):
    class Pair:
        rank, world_size, is_first = 0, 2, True

        def __init__(self, *others):
            self.others = others

        def all_gather(self, array):
            return mx.np.array([array, *(array + other for other in self.others)]).asnumpy()

    monkeypatch.setattr(plan_check, "free_memory", lambda: 4 << 30)
    limits = [
        check_run(tiny(), FACES, Runtime(cluster=cluster)).limit for cluster in (Pair(0), Pair(1))
    ]  # on one machine, on two
    assert limits == [2 << 30, 4 << 30]


def test_the_start_says_images_updates_epochs_and_memory_and_then_the_expected_end(face_folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train(tiny(max_updates=30, verify_every=30, save_every=30), data=face_folder, out=tmp_path)
    start = next(line for line in caplog.messages if "24 images of 4 identities" in line)
    assert "30 updates of 8 (10.0 epochs)" in start
    assert "GiB planned of" in start
    ends = [line for line in caplog.messages if line.startswith("expected end: ")]
    assert len(ends) == 1
    assert ", in " in ends[0]
    lines = [line for line in caplog.messages if line.startswith("update 30/30")]
    assert "  end " in lines[0]


def test_an_absurd_number_of_epochs_gets_a_warning_with_a_sensible_number(caplog):
    warn_of_epochs(tiny(max_updates=1500), FACES.images)  # 500 epochs
    check_run(tiny(max_updates=41_541), FACES, Runtime())  # which demos do once more, before their teacher trains
    assert not caplog.records
    warn_of_epochs(tiny(max_updates=41_541), FACES.images)
    assert "41541 updates of 8 images are 13847 epochs of these 24 images" in caplog.text
    assert "for 25 epochs give --set max_updates=75" in caplog.text
