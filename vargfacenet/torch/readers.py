"""Processes that read batches: threads of one process share an interpreter, which feeds a GPU only some thousand images/s."""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import mxnet as mx
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vargfacenet.data.batches import BatchReader
from vargfacenet.data.iterator import FaceIterator
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError, SetupError

_MOST_READERS = 8
_AHEAD = 2  # batches that each process holds ready


def number_of_readers(asked: int | None, device: torch.device) -> int:
    """Return how many processes read for a worker: by default one for two of its cores on a GPU, elsewhere none."""
    if asked is not None:
        return asked
    if device.type != "cuda":
        return 0
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
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
        self._loaded: Iterator[_Read | str] | None = None

    def next(self) -> mx.io.DataBatch:
        """Return the next batch; DataError as `FaceIterator.next`, SetupError where a process was lost."""
        if self._loaded is None:
            self._loaded = self._load()
        begin = time.perf_counter()
        try:
            read = next(self._loaded)
            if isinstance(read, str):
                raise DataError(read)
            for index, reason in read.bad.items():
                if index not in self.bad:
                    self.batches.count_bad(index, reason)
        except BaseException as error:
            self.close()
            if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
                raise SetupError(
                    f"a process that reads images was lost ({error}); readers=0 reads in this process"
                ) from error
            raise
        finally:
            self.waited += time.perf_counter() - begin
        self._update += 1
        batch = mx.io.DataBatch([read.images], [mx.nd.array(read.labels.numpy())], pad=0, index=read.places.numpy())
        batch.mirrored = read.mirrored.numpy()
        return batch

    def close(self) -> None:
        """Stop the processes; a later call of `next` starts them at the first update."""
        super().close()
        self._loaded = None  # PyTorch ends the processes of an iterator that nobody holds

    def _load(self) -> Iterator[_Read | str]:
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
            return starter.submit(iter, loader).result()


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

    def __getitem__(self, update: int) -> _Read | str:
        # Whole numbers travel as bytes. An error goes as text: PyTorch would put a traceback into its message.
        kind = torch.float32 if self._batches.mixes else torch.uint8
        images = torch.empty(self._batches.shape, dtype=kind)
        try:
            facts = self._batches.fill(update, images.numpy())
        except DataError as error:
            return str(error)
        bad = {index: reason for index, reason in self._batches.bad.items() if index not in self._known}
        self._known.update(bad)
        labels, places, mirrored = map(torch.from_numpy, facts)
        return _Read(images, labels, places, mirrored, bad)


def _begin(number: int) -> None:
    """Prepare a reading process: signals and messages are the first process's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.WARNING)
    cv2.setNumThreads(1)


def make_iterator(batches: BatchReader, device: torch.device, readers: int | None, **updates: Any) -> FaceIterator:
    """Return the iterator of a worker's batches, read by processes or by threads; `updates` are those of `FaceIterator`."""
    count = number_of_readers(readers, device)
    return ReadByProcesses(batches, readers=count, **updates) if count else FaceIterator(batches, **updates)
