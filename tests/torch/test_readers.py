"""Processes that read batches give what threads give."""

import concurrent.futures
import contextlib
import logging
import pickle
import shutil
import signal
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.helpers.record_sets import offsets, overwrite
from tests.helpers.training import parameters, tiny
from vargfacenet.data import Augmentation, BatchReader, FaceIterator, JoinedSets, RecordSet
from vargfacenet.data.augment import AUGMENTATIONS, register_augmentation
from vargfacenet.errors import DataError, SettingError, SetupError
from vargfacenet.torch import readers
from vargfacenet.torch.readers import ReadByProcesses, number_of_readers
from vargfacenet.train.embedder_teacher import EmbedderTeacher, OnlineEmbedder
from vargfacenet.train.recipes import find_recipe
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


RECIPE = """
from typing import Annotated

from vargfacenet.data import register_augmentation
from vargfacenet.options import About

@register_augmentation
def of_a_recipe_file(image, random, *, how: Annotated[str, About("How.", choices=lambda: ["dark", "bright"])] = "dark"):
    return image // 2 if how == "dark" else 255 - image // 2

recipe = {}
"""


@pytest.fixture
def registered(monkeypatch):
    """Forget in the end what a test registers."""
    for name in ("_entries", "_sources"):
        monkeypatch.setattr(AUGMENTATIONS, name, dict(getattr(AUGMENTATIONS, name)))


@pytest.fixture
def augmentation(registered, tmp_path):
    """An augmentation that a recipe file registers, which other processes cannot import."""
    file = tmp_path / "mine.py"
    file.write_text(RECIPE)
    find_recipe(str(file))
    return Augmentation(shift=4, registered=(("of_a_recipe_file", {"how": "bright"}),))


@pytest.mark.parametrize(
    ("options", "count", "dtype"),
    [({}, 2, np.uint8), ({"mix": 0.6}, 1, np.float32)],
    ids=["bytes", "mixed"],
)
def test_batches_are_those_of_threads(face_folder, augmentation, options, count, dtype):
    if dtype == np.float32:
        options = {**options, "augment": augmentation}
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
        # A terminal and a batch system send these to all processes of a run; here another process does.
        for number in (signal.SIGINT, signal.SIGTERM):
            code = f"import os; os.kill({worker.pid}, {int(number)})"
            subprocess.run([sys.executable, "-S", "-c", code], check=True)
        for update in range(1, 21):
            assert iterator.next().index.shape == (8,), update
        worker.terminate()
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


def loaded(records, *found):
    """An iterator whose processes have read this; an exception is raised."""

    def read():
        for one in found:
            if isinstance(one, (RuntimeError, OSError, EOFError)):
                raise one
            yield one

    iterator = ReadByProcesses(reader(records), readers=1)
    iterator._loaded = read()
    return iterator


def test_processes_are_started_where_the_signals_that_stop_a_run_are_blocked():
    class Loader:
        def __iter__(self):
            return iter(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    with concurrent.futures.ThreadPoolExecutor(1) as starter:
        assert {signal.SIGINT, signal.SIGTERM} <= set(starter.submit(readers._start, Loader()).result())
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_an_error_of_a_setting_arrives_as_it_is(face_folder, registered):
    @register_augmentation
    def halve(image, random):
        return image / 2

    records = RecordSet(face_folder)
    found = readers._Batches(reader(records, augment=Augmentation(registered=(("halve", {}),))))[0]
    with pytest.raises(SettingError, match="^augmentation halve returned float64"):
        loaded(records, pickle.loads(pickle.dumps(found))).next()


def test_an_error_of_a_process_is_not_taken_for_its_loss(face_folder):
    records = RecordSet(face_folder)
    raised = "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback"
    with pytest.raises(RuntimeError, match="^Caught RuntimeError"):
        loaded(records, RuntimeError(raised)).next()
    with pytest.raises(OSError, match="^Caught OSError"):
        loaded(records, OSError(raised.replace("Runtime", "OS"))).next()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
        ConnectionResetError("reset by peer"),
        EOFError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_process_may_be_lost_while_its_batches_are_fetched(error, face_folder):
    with pytest.raises(SetupError, match=r"did not start \(\w.* if __name__ == '__main__'"):
        loaded(RecordSet(face_folder), error).next()


def test_the_end_stays_the_end_until_it_is_reset(face_folder):
    iterator = loaded(RecordSet(face_folder))
    for _ in range(2):
        with pytest.raises(StopIteration):
            iterator.next()
    iterator.reset()
    assert iterator._loaded is None


def test_what_cannot_be_given_to_a_process_is_refused(face_folder, registered):
    @register_augmentation
    def local(image, random):
        return image

    batches = reader(RecordSet(face_folder), augment=Augmentation(registered=(("local", {}),)))
    with pytest.raises(SettingError, match="augmentation local is defined within a function"):
        ReadByProcesses(batches, readers=1).next()
    batches = reader(RecordSet(face_folder), augment=lambda image, random: (image, False))
    with pytest.raises(SettingError, match="readers=0 reads them in this process"):
        ReadByProcesses(batches, readers=1).next()


def test_a_teacher_outside_of_the_engine_takes_what_processes_read():
    class Means:
        batch_size = 4

        def embed_batch(self, images):
            assert images.dtype == np.float32
            return np.stack([images.mean(axis=(1, 2, 3)), images[:, 0, 0, 0] - 300], axis=1)

    teacher = OnlineEmbedder(EmbedderTeacher(Means(), "0", argument="means"), mirror=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 112, 112)).astype(np.uint8)
    found, expected = (teacher.embed(mx.io.DataBatch([one])) for one in (torch.from_numpy(images), mx.nd.array(images)))
    np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


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
