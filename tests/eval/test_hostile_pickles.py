"""Pickles that try to run code or exhaust the machine: refused in bounded time and memory, without running anything."""

import builtins
import pickle
import sys
import time
import tracemalloc

import numpy as np
import pytest

from tests.helpers.pickles import HOSTILE
from vargfacenet.errors import DataError
from vargfacenet.eval import byte_pickle, read_pairs, write_pairs


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fail the test if anything is imported or opened while the pickle is read."""
    ran = []
    sys.addaudithook(
        lambda event, arguments: event in ("os.system", "exec", "import") and watching and ran.append(event)
    )
    watching = [True]
    yield ran
    watching.clear()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_in_bounded_time_and_memory(tmp_path, nothing_runs, name):
    path = tmp_path / "set.bin"
    path.write_bytes(HOSTILE[name])
    files = sorted(tmp_path.iterdir())
    tracemalloc.start()
    begin = time.process_time()  # which a busy machine does not lengthen
    try:
        with pytest.raises(DataError, match="set.bin"):
            read_pairs(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < 20
    assert peak < 3 * len(HOSTILE[name]) + (200 << 20)
    assert nothing_runs == []
    assert sorted(tmp_path.iterdir()) == files


def test_the_monitor_detects_code_that_runs(nothing_runs):
    pickle.loads(HOSTILE["os.system"])
    assert "os.system" in nothing_runs


def test_names_are_compared_and_never_looked_up(monkeypatch):
    monkeypatch.setattr(builtins, "__import__", None)
    with pytest.raises(DataError, match="asks for os.system"):
        byte_pickle.load(HOSTILE["os.system"])


def test_a_flipped_label_is_found_by_the_checksum(tmp_path, pairs_set):
    path = tmp_path / "set.bin"
    write_pairs(path, *pairs_set)
    content = bytearray(path.read_bytes())
    end = byte_pickle.load(bytes(content))[1]
    place = content.rindex(b"\x88", 0, end)
    content[place] = 0x89  # another set, and a good one
    path.write_bytes(content)
    with pytest.raises(DataError, match="set.bin is damaged: the checksum after its pickle does not match"):
        read_pairs(path)
    path.write_bytes(content[:end])  # as others write it, there is nothing to know it by
    assert int(np.sum(read_pairs(path).is_same)) == sum(pairs_set[1]) - 1


def test_pythons_pickle_reads_a_set_with_a_checksum(tmp_path, pairs_set):
    path = tmp_path / "set.bin"
    write_pairs(path, *pairs_set)
    with open(path, "rb") as file:
        images, is_same = pickle.load(file, encoding="bytes")
    assert (images, is_same) == ([bytes(image) for image in pairs_set[0]], pairs_set[1])
