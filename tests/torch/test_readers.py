"""Processes that read batches give what threads give."""

import contextlib
import logging
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from tests.helpers.record_sets import offsets, overwrite
from tests.helpers.training import parameters, tiny
from vargfacenet.data import Augmentation, BatchReader, FaceIterator, JoinedSets, RecordSet
from vargfacenet.errors import DataError, SettingError, SetupError
from vargfacenet.torch import readers
from vargfacenet.torch.readers import ReadByProcesses, number_of_readers
from vargfacenet.train.run import train
from vargfacenet.train.runtime import Runtime

CPU = torch.device("cpu", 0)
UPDATES = {"first_update": 2, "last_update": 6}


def all_batches(iterator):
    with contextlib.closing(iterator):
        return [
            (np.array(b.data[0] if isinstance(b.data[0], torch.Tensor) else b.data[0].asnumpy()), *facts(b))
            for b in iterator
        ]


def facts(batch):
    return batch.label[0].asnumpy(), batch.index, batch.mirrored


def reader(records, **options):
    return BatchReader(records, batch_size=8, seed=3, **{"augment": Augmentation(shift=4, color_jitter=0.2), **options})


@pytest.mark.parametrize(
    ("options", "count", "dtype"),
    [({}, 2, np.uint8), ({"mix": 0.6, "augment": None}, 1, np.float32)],
    ids=["bytes", "mixed"],
)
def test_batches_are_those_of_threads(face_folder, options, count, dtype):
    records = JoinedSets([face_folder])
    found = all_batches(ReadByProcesses(reader(records, **options), readers=count, **UPDATES))
    expected = all_batches(FaceIterator(reader(records, **options), **UPDATES))
    assert found[0][0].dtype == dtype
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected):
        for value, wanted in zip(one, other):
            np.testing.assert_array_equal(value, wanted)


@pytest.fixture
def damaged(face_folder, tmp_path):
    folder = shutil.copytree(face_folder, tmp_path / "damaged")
    for key in (5, 14):
        overwrite(folder, offsets(folder)[key] + 100, b"damage")
    return RecordSet(folder)


def test_bad_images_of_all_processes_are_counted_together(damaged, caplog):
    iterator = ReadByProcesses(reader(damaged, max_bad_share=0.1), readers=2, last_update=6)
    with caplog.at_level(logging.WARNING):
        found = all_batches(iterator)
    assert set(iterator.bad) == {4, 13}
    assert len([one for one in caplog.messages if "another image replaces it" in one]) == 2
    for one, other in zip(found, all_batches(FaceIterator(reader(damaged, max_bad_share=0.1), last_update=6))):
        np.testing.assert_array_equal(one[2], other[2])
    with pytest.raises(DataError, match=r"images are bad, and max_bad_share=0.05 allows 1") as caught:
        all_batches(ReadByProcesses(reader(damaged, max_bad_share=0.05), readers=1, last_update=6))
    assert "\n" not in str(caught.value)


def test_a_lost_process_is_an_error_with_a_remedy_and_the_next_begins_again(face_folder):
    iterator = ReadByProcesses(reader(RecordSet(face_folder)), readers=1)  # endless
    with contextlib.closing(iterator):
        first = facts(iterator.next())
        [worker] = iterator._loaded._workers
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(SetupError, match="readers=0 reads in this process"):
            for _ in range(20):
                iterator.next()
        np.testing.assert_array_equal(facts(iterator.next())[1], first[1])


def test_a_run_is_the_same_with_processes(face_folder, tmp_path):
    settings = {"max_updates": 2, "generations": 1, "engine": "torch", "batch_size": 12}
    for count in (0, 1):
        out = tmp_path / str(count)
        train(tiny(**settings, readers=count), data=face_folder, out=out, runtime=Runtime([CPU]))
    one, other = (parameters(tmp_path / name) for name in "01")
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize(
    ("asked", "kind", "cores", "workers", "expected"),
    [
        (3, "cpu", 16, 1, 3),
        (None, "cpu", 16, 1, 0),
        (None, "cuda", 16, 1, 8),
        (None, "cuda", 8, 2, 2),
        (None, "cuda", 1, 1, 1),
        (0, "cuda", 16, 1, 0),
    ],
)
def test_a_gpu_has_a_process_for_two_cores(asked, kind, cores, workers, expected, monkeypatch):
    monkeypatch.setattr(readers, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(workers))
    assert number_of_readers(asked, torch.device(kind, 0)) == expected


def test_mxnet_has_no_reading_processes(face_folder, tmp_path):
    with pytest.raises(SettingError, match="readers=2 is of engine=torch"):
        train(tiny(readers=2, engine="mxnet"), data=face_folder, out=tmp_path / "out")
