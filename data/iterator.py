"""Iterator over the batches of a training set, which threads decode ahead of the trainer."""

from __future__ import annotations

import collections
import concurrent.futures
import time

import mxnet as mx

from vargfacenet.data.batches import BatchReader
from vargfacenet.environment import usable_cores


class FaceIterator(mx.io.DataIter):
    """Batches of consecutive updates, see `BatchReader.read`.

    Parameters
    ----------
    batches
        The batches.
    first_update
        Update to start at.
    last_update
        Update to stop before; the iterator is endless without it.
    threads
        Threads that decode; one per core by default.
    prefetch
        Batches held ready.

    Attributes
    ----------
    waited
        Seconds that the caller has waited for batches so far.
    """

    def __init__(
        self,
        batches: BatchReader,
        *,
        first_update: int = 0,
        last_update: int | None = None,
        threads: int | None = None,
        prefetch: int = 4,
    ) -> None:
        super().__init__(batches.batch_size)
        self.batches = batches
        self.provide_data = [mx.io.DataDesc("data", batches.shape)]
        self.provide_label = [mx.io.DataDesc("softmax_label", batches.shape[:1])]
        self.waited = 0.0
        self._first, self._last = first_update, last_update
        self._threads = threads or usable_cores()
        self._prefetch = prefetch
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._ahead: collections.deque[concurrent.futures.Future] = collections.deque()
        self._update = first_update

    @property
    def bad(self) -> dict[int, str]:
        """Bad images so far, see `BatchReader.bad`."""
        return self.batches.bad

    def epoch_of(self, update: int) -> int:
        """Return the number of complete passes over the set before an update."""
        return update * self.batches.batch_size // len(self.batches.records)

    def reset(self) -> None:
        """Restart at the first update."""
        self.close()

    def next(self) -> mx.io.DataBatch:
        """Return the next batch.

        Raises
        ------
        DataError
            If more images are bad than the settings allow.
        """
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self._threads)
        while len(self._ahead) <= max(self._prefetch, self._threads) and self._update != self._last:
            self._ahead.append(self._pool.submit(self.batches.read, self._update))
            self._update += 1
        if not self._ahead:
            raise StopIteration
        begin = time.perf_counter()
        try:
            return self._ahead.popleft().result()
        except BaseException:
            self.close()
            raise
        finally:
            self.waited += time.perf_counter() - begin

    def close(self) -> None:
        """Stop the threads; a later call of `next` restarts them at the first update."""
        if self._pool is not None:
            for batch in self._ahead:
                batch.cancel()
            self._pool.shutdown()
        self._pool, self._ahead, self._update = None, collections.deque(), self._first
