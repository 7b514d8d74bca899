"""Faults that meet a run in the middle: full disks, read-only folders, data that goes away; each leaves its states whole."""

import os
import resource
import shutil
import subprocess

import pytest

from tests.helpers.training import before_each_step, stopped_after, tiny
from vargfacenet.errors import DataError
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.training_state import TrainingStates


def run(face_folder, out, **options):
    return train(tiny(save_every=2, keep=2), data=face_folder, out=out, **options)


def when(monkeypatch, update, action):
    """Calls `action` before an update of whatever trains next."""

    def watch(trainer, batch):
        trainer.seen = getattr(trainer, "seen", 0) + 1
        if trainer.seen == update:
            action()

    before_each_step(monkeypatch, watch)


def assert_whole_and_resumable(out, face_folder, update):
    assert TrainingStates(out).newest().update == update
    assert not list(out.glob("**/.*.tmp"))
    load_checkpoint(out / "latest", 0)
    assert run(face_folder, out, resume=Resume()).updates == 6 - update


@pytest.fixture
def mounted():
    """``mounted(folder, *options)`` mounts something until the test is over."""
    made = []

    def mount(folder, *options):
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("mounting needs root")
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        made.append(folder)

    yield mount
    for folder in reversed(made):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_one_line_and_its_states(face_folder, tmp_path, monkeypatch, mounted):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted(disk, "-t", "tmpfs", "-o", "size=64m", "tmpfs")

    def fill():
        with pytest.raises(OSError, match="No space left"), open(disk / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with monkeypatch.context() as patch:
        when(patch, 3, fill)
        with pytest.raises(
            DataError, match=r"cannot write .*(states.*|log.jsonl|metrics.csv): No space left on device"
        ):
            run(face_folder, disk / "out")
    (disk / "filler").unlink()
    assert_whole_and_resumable(disk / "out", face_folder, 2)


def test_a_limit_on_the_size_of_files_is_as_a_full_disk(face_folder, tmp_path, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        when(patch, 3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard)))
        try:
            with pytest.raises(DataError, match=r"cannot write .*states.update-000000004.params: File too large"):
                run(face_folder, tmp_path / "out")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_whole_and_resumable(tmp_path / "out", face_folder, 2)


def test_a_folder_made_read_only_ends_the_run_with_one_line_and_its_states(face_folder, tmp_path, monkeypatch, mounted):
    out = tmp_path / "out"

    def forbid():
        mounted(out / "states", "--bind", str(out / "states"))
        subprocess.run(["mount", "-o", "remount,ro,bind", str(out / "states")], check=True)

    with monkeypatch.context() as patch:
        when(patch, 3, forbid)
        with pytest.raises(DataError, match=r"cannot write .*states.update-000000004.params: Read-only file system"):
            run(face_folder, out)
    subprocess.run(["umount", "-l", str(out / "states")], check=True)
    subprocess.run(["mount", "--bind", str(out / "states"), str(out / "states")], check=True)  # for the end of the test
    assert_whole_and_resumable(out, face_folder, 2)


def test_a_set_that_is_cut_mid_run_ends_the_run_with_one_line_and_its_states(face_folder, tmp_path, monkeypatch):
    data, out = tmp_path / "faces", tmp_path / "out"
    shutil.copytree(face_folder, data)
    with monkeypatch.context() as patch:
        when(patch, 3, lambda: os.truncate(data / "train.rec", 100))
        patch.setattr("vargfacenet.data.iterator.usable_cores", lambda: 1)
        with pytest.raises(DataError, match=r"train.rec"):
            train(tiny(save_every=2, max_updates=40), data=data, out=out)
    assert TrainingStates(out).updates()
    load_checkpoint(out / "latest", 0)
    with pytest.raises(DataError, match=r"train.rec is cut: it ends at byte 100"):
        train(tiny(save_every=2, max_updates=40), data=data, out=out, resume=Resume())
    shutil.copy(face_folder / "train.rec", data / "train.rec")
    with stopped_after(1):
        train(tiny(save_every=2, max_updates=40), data=data, out=out, resume=Resume())


def test_a_set_that_is_removed_mid_run_is_read_to_the_end_and_missed_at_the_next_start(
    face_folder, tmp_path, monkeypatch
):
    """The file stays open, so the system keeps it."""
    data, out = tmp_path / "faces", tmp_path / "out"
    shutil.copytree(face_folder, data)
    with monkeypatch.context() as patch:
        when(patch, 3, lambda: (data / "train.rec").unlink())
        with stopped_after(5):
            run(data, out)
    assert TrainingStates(out).newest().update == 4
    with pytest.raises(DataError, match=r"no record file .*train.rec: give a folder with"):
        run(data, out, resume=Resume())
