"""Processes that read batches: threads of one process share an interpreter, which feeds a GPU only some thousand images/s."""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

import cv2
import mxnet as mx
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vargfacenet.data.batches import BatchReader
from vargfacenet.data.iterator import FaceIterator
from vargfacenet.environment import usable_cores
from vargfacenet.errors import SettingError, SetupError, VarGFaceNetError
from vargfacenet.torch.cluster import local_world_size

_MOST_READERS = 8
_AHEAD = 2  # batches that each process holds ready
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def number_of_readers(asked: int | None, device: torch.device) -> int:
    """Return how many processes read for a worker: by default one for two of its cores on a GPU, elsewhere none."""
    if asked is not None:
        return asked
    if device.type != "cuda":
        return 0
    cores = usable_cores() // local_world_size()
    return min(_MOST_READERS, max(1, cores // 2))


class ReadByProcesses(FaceIterator):
    """A `FaceIterator` whose batches other processes read; they are the same batches.

    Images of a batch are a tensor, uint8 (N, 3, height, width), float32 where faces are mixed.

    Parameters
    ----------
    batches
        The batches. Registered augmentations among them must be importable in another process.
    readers
        Processes, 1 or more.
    first_update, last_update
        As of `FaceIterator`.
    """

    def __init__(
        self, batches: BatchReader, *, readers: int, first_update: int = 0, last_update: int | None = None
    ) -> None:
        super().__init__(batches, first_update=first_update, last_update=last_update)
        self._readers = readers
        self._loaded: Iterator[_Read | VarGFaceNetError] | None = None
        self._has_read = False

    def next(self) -> mx.io.DataBatch:
        """Return the next batch; errors as `FaceIterator.next`, SetupError where a process was lost."""
        if self._loaded is None:
            self._loaded, self._has_read = self._load(), False
        begin = time.perf_counter()
        try:
            read = next(self._loaded)
            if isinstance(read, VarGFaceNetError):
                raise read
            for index, reason in read.bad.items():
                if index not in self.bad:
                    self.batches.count_bad(index, reason)
        except StopIteration:
            self._loaded = iter(())  # until `reset`; the processes end
            raise
        except BaseException as error:
            self.close()
            if _is_loss(error):
                raise self._lost(error) from error
            raise
        finally:
            self.waited += time.perf_counter() - begin
        self._has_read = True
        self._update += 1
        batch = mx.io.DataBatch([read.images], [mx.nd.array(read.labels.numpy())], pad=0, index=read.places.numpy())
        batch.mirrored = read.mirrored.numpy()
        return batch

    def close(self) -> None:
        """Stop the processes; a later call of `next` starts them at the first update."""
        super().close()
        self._loaded = None  # PyTorch ends the processes of an iterator that nobody holds

    def _load(self) -> Iterator[_Read | VarGFaceNetError]:
        loader = DataLoader(
            _Batches(self.batches),
            batch_size=None,
            sampler=_Updates(self._update, self._last),
            num_workers=self._readers,
            prefetch_factor=_AHEAD,
            multiprocessing_context="spawn",  # a fork would copy threads of MXNet and of CUDA that do not go on in the copy
            worker_init_fn=_begin,
        )
        # In the main thread PyTorch would take the signal of a lost process, and raise an error wherever that thread is.
        with concurrent.futures.ThreadPoolExecutor(1) as starter:
            return starter.submit(_start, loader).result()

    def _lost(self, error: BaseException) -> SetupError:
        what, more = "was lost", "where shared memory (/dev/shm) is short, fewer readers may do"
        if not self._has_read:
            what, more = "did not start", "a script needs if __name__ == '__main__', because each process runs it"
        return SetupError(
            f"a process that reads images {what} ({str(error) or 'end of its file'}): readers=0 reads in this process; {more}"
        )


def _is_loss(error: BaseException) -> bool:
    """Return True for what PyTorch raises where a process is gone: before its batches, or while these are fetched from it."""
    if str(error).startswith("Caught"):  # what a process has raised
        return False
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker (pid")
    return isinstance(error, (EOFError, ConnectionError, FileNotFoundError))


class _Read(NamedTuple):
    """A batch as it comes from another process, with the bad images that were found in it."""

    images: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor
    mirrored: torch.Tensor
    bad: dict[int, str]


class _Updates(Sampler):
    """The numbers of the updates."""

    def __init__(self, first: int, last: int | None) -> None:
        self._first, self._last = first, last

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self._first) if self._last is None else iter(range(self._first, self._last))


class _Batches(Dataset):
    """Batches by the number of their update."""

    def __init__(self, batches: BatchReader) -> None:
        self._batches = batches
        self._known: set[int] = set()

    def __getitem__(self, update: int) -> _Read | VarGFaceNetError:
        # Whole numbers travel as bytes. An error is returned: PyTorch would put a traceback into its message.
        kind = torch.float32 if self._batches.mixes else torch.uint8
        images = torch.empty(self._batches.shape, dtype=kind)
        try:
            facts = self._batches.fill(update, images.numpy())
        except VarGFaceNetError as error:
            return error
        bad = {index: reason for index, reason in self._batches.bad.items() if index not in self._known}
        self._known.update(bad)
        labels, places, mirrored = map(torch.from_numpy, facts)
        return _Read(images, labels, places, mirrored, bad)


def _start(loader: DataLoader) -> Iterator[_Read | VarGFaceNetError]:
    """Start the processes, in a thread that ends: they have its blocked signals from their first instruction on.

    A terminal and a batch system give these signals to all processes of a run, and the first process decides when it stops.
    """
    resource_tracker.ensure_running()  # which lets the signals through again when it begins
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        return iter(loader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SettingError(
            f"other processes cannot read these batches ({error}): readers=0 reads them in this process"
        ) from error


def _begin(number: int) -> None:
    """Prepare a reading process: stops and messages are the first process's."""
    if sys.platform == "darwin":  # which does not say who sends a signal
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    else:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable(logging.WARNING)
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    """End this process where its parent terminates it, and not where another process does."""
    while signal.sigwaitinfo((signal.SIGTERM,)).si_pid != os.getppid():
        pass
    os._exit(0)


def make_iterator(batches: BatchReader, device: torch.device, readers: int | None, **updates: Any) -> FaceIterator:
    """Return the iterator of a worker's batches, read by processes or by threads; `updates` are those of `FaceIterator`."""
    count = number_of_readers(readers, device)
    return ReadByProcesses(batches, readers=count, **updates) if count else FaceIterator(batches, **updates)
