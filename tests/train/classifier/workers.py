"""Workers of a run as threads of one process."""

import threading

import mxnet as mx
import numpy as np

from vargfacenet.train.cluster import Cluster


class _Meeting:
    def __init__(self, size):
        self.arrays, self.barrier = [None] * size, threading.Barrier(size, timeout=600)


class ThreadCluster(Cluster):
    """A cluster of threads; what is given is not the array that the others read."""

    def __init__(self, rank, meeting):
        super().__init__(rank, len(meeting.arrays))
        self._meeting, self.names = meeting, []

    def all_reduce_async(self, name, array):
        assert np.dtype(array.dtype) == np.float32
        self.names.append((name, array.shape))
        self._meeting.arrays[self.rank] = array.asnumpy()
        self._meeting.barrier.wait()
        total = sum(self._meeting.arrays[1:], self._meeting.arrays[0])
        self._meeting.barrier.wait()
        return mx.nd.array(total, ctx=array.context)


def run_workers(size, work):
    """What ``work(cluster)`` gives in each of `size` workers (list); the first error, where there is one."""
    meeting, results, errors = _Meeting(size), [None] * size, []

    def run(rank):
        try:
            results[rank] = work(ThreadCluster(rank, meeting))
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
