"""Workers of a run as threads of one process."""

import threading

import mxnet as mx
import numpy as np


class _Meeting:
    def __init__(self, size):
        self.arrays, self.barrier = [None] * size, threading.Barrier(size, timeout=600)


class ThreadExchange:
    """An exchange among threads; what is given is not the array that the others read."""

    def __init__(self, rank, meeting):
        self.rank, self.size, self._meeting, self.names = rank, len(meeting.arrays), meeting, []

    def sum(self, name, array):
        assert np.dtype(array.dtype) == np.float32
        self.names.append((name, array.shape))
        self._meeting.arrays[self.rank] = array.asnumpy()
        self._meeting.barrier.wait()
        total = sum(self._meeting.arrays[1:], self._meeting.arrays[0])
        self._meeting.barrier.wait()
        return mx.nd.array(total, ctx=array.context)


def run_workers(size, work):
    """What ``work(exchange)`` gives in each of `size` workers (list); the first error, where there is one."""
    meeting, results, errors = _Meeting(size), [None] * size, []

    def run(rank):
        try:
            results[rank] = work(ThreadExchange(rank, meeting))
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
