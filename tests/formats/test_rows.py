"""Arrays that grow by rows: two writers wait for one another, and a dead one is not waited for."""

import fcntl
import logging
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.formats.rows import digest_file, open_rows, remove_part, write_rows

SHAPE, DTYPE = (6, 3), "<f4"
ROWS = np.arange(18, dtype=np.float32).reshape(SHAPE)


def rows_from(done):
    for place in range(done, len(ROWS)):
        yield ROWS[place : place + 1]


def written(path):
    return np.stack([open_rows(path, SHAPE, DTYPE, "again")[place] for place in range(len(ROWS))])


def test_a_second_writer_waits_for_the_first_and_computes_nothing(tmp_path, caplog):
    path, begun, may_end, computed = tmp_path / "a.npy", threading.Event(), threading.Event(), []

    def slow(done):
        begun.set()
        may_end.wait()
        yield from rows_from(done)

    def second():
        write_rows(path, SHAPE, DTYPE, lambda done: computed.append(done) or rows_from(done))

    with caplog.at_level(logging.WARNING):
        first = threading.Thread(target=write_rows, args=(path, SHAPE, DTYPE, slow))
        other = threading.Thread(target=second)
        first.start()
        begun.wait()
        other.start()
        while "waiting for it" not in caplog.text:
            time.sleep(0.01)
        assert f"another process is writing {path.with_suffix('.part')}" in caplog.text
        may_end.set()
        first.join()
        other.join()
    assert computed == []
    np.testing.assert_array_equal(written(path), ROWS)


def test_a_second_writer_continues_what_the_first_gave_up(tmp_path, caplog):
    path, begun, may_end, computed = tmp_path / "a.npy", threading.Event(), threading.Event(), []

    def failing(done):
        yield ROWS[:2]
        begun.set()
        may_end.wait()
        raise DataError("an image cannot be read")

    def first():
        with pytest.raises(DataError, match="cannot be read"):
            write_rows(path, SHAPE, DTYPE, failing)

    threads = [
        threading.Thread(target=first),
        threading.Thread(
            target=write_rows, args=(path, SHAPE, DTYPE, lambda done: computed.append(done) or rows_from(done))
        ),
    ]
    threads[0].start()
    begun.wait()
    threads[1].start()
    while "waiting for it" not in caplog.text:
        time.sleep(0.01)
    may_end.set()
    for thread in threads:
        thread.join()
    assert computed == [2]
    np.testing.assert_array_equal(written(path), ROWS)


def test_a_writer_that_was_killed_is_not_waited_for(tmp_path, caplog):
    path = tmp_path / "a.npy"
    code = (
        "import fcntl, os, signal, sys\n"
        "file = open(sys.argv[1], 'ab')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path.with_suffix(".part"))], check=False).returncode == -9
    write_rows(path, SHAPE, DTYPE, rows_from)
    assert not caplog.records
    np.testing.assert_array_equal(written(path), ROWS)


@pytest.mark.parametrize("place", [-1, -30])
def test_a_changed_bit_is_found(tmp_path, place):
    path = tmp_path / "a.npy"
    write_rows(path, SHAPE, DTYPE, rows_from)
    content = bytearray(path.read_bytes())
    content[place] ^= 8
    path.write_bytes(content)
    with pytest.raises(DataError, match="its digest is not the one noted when it was written; delete it and again"):
        open_rows(path, SHAPE, DTYPE, "again")
    digest_file(path).unlink()  # as of an earlier version
    open_rows(path, SHAPE, DTYPE, "again")


@pytest.mark.parametrize("finished", [True, False])
def test_a_part_that_goes_between_opening_and_locking_is_not_written_to(finished, tmp_path, monkeypatch):
    """As where another process ends its work, or clears the cache, at that moment."""
    path, computed, lock = tmp_path / "a.npy", [], fcntl.flock

    def meanwhile(file, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        path.with_suffix(".part").unlink()
        if finished:
            write_rows(path, SHAPE, DTYPE, rows_from)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    write_rows(path, SHAPE, DTYPE, lambda done: computed.append(done) or rows_from(done))
    assert computed == ([] if finished else [0])
    np.testing.assert_array_equal(written(path), ROWS)


def test_a_part_is_removed_unless_it_is_being_written(tmp_path):
    part = tmp_path / "a.part"
    part.write_bytes(b"rows")
    with open(part, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not remove_part(part)
        assert part.exists()
    assert remove_part(part)
    assert not part.exists()
    assert remove_part(part)  # another process was quicker
