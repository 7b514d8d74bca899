"""The workers that train together: who they are, and what they exchange.

`Cluster` is the only way by which a run talks to its other workers. It speaks the vocabulary of collective operations:
`rank`, `world_size`, `all_reduce`, `all_gather`, `broadcast` and `barrier`. Everything else (equal settings, equal
weights, taking turns) is made of these. They run over MXNet's parameter server (`vargfacenet.train.store.Store`), which
can add arrays up and nothing else: a gather is a sum of arrays in which each worker leaves zero what others fill in.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import mxnet as mx
import numpy as np

from vargfacenet.errors import ClusterError, SettingError, TrainingError
from vargfacenet.launch.heartbeat import Heartbeat, start_heartbeat
from vargfacenet.launch.member import RANK, SIZE
from vargfacenet.launch.membership import JOINING
from vargfacenet.train.store import Store

_FAILED = 2  # exit status
_HEAD_START = 5.0  # seconds for a worker that knows what is wrong to report it first
_SIZES = (1 << 10, 1 << 20)  # numbers in an exchange: of small arrays, and of each part of large ones

Value = TypeVar("Value")


class Cluster:
    """The workers of a run; by default a single one, for which every method is free.

    All workers must call the same methods in the same order: each waits until the others have called it too.

    Parameters
    ----------
    rank, world_size
        Number of this worker, 0 .. world_size - 1, and number of workers.
    store
        Where they exchange; needed where there are several.
    heartbeat
        Where this worker reports what it does.
    """

    def __init__(
        self, rank: int = 0, world_size: int = 1, store: Store | None = None, heartbeat: Heartbeat | None = None
    ) -> None:
        self.rank, self.world_size, self.store = rank, world_size, store
        self._heartbeat, self._doing = heartbeat, ("preparing", False)

    @property
    def is_first(self) -> bool:
        """True for worker 0, the only one that writes files."""
        return self.rank == 0

    def all_reduce(self, array: Any) -> np.ndarray:
        """Return the sum over all workers of a number or a float32 array that has the same shape in each."""
        if self.world_size == 1:
            return array
        self._send(self._doing[0], True)
        flat, place = np.ascontiguousarray(array, np.float32).ravel(), 0
        total = np.empty_like(flat)
        while place < len(flat):
            length = _SIZES[len(flat) - place > _SIZES[0]]
            part = np.zeros(length, np.float32)
            taken = min(length, len(flat) - place)
            part[:taken] = flat[place : place + taken]
            summed = self.all_reduce_async(f"exchange {length}", mx.nd.array(part)).asnumpy()
            total[place : place + taken] = summed[:taken]
            place += taken
        self._send(*self._doing)
        return total.reshape(np.shape(array))

    def all_reduce_async(self, name: str, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return the sum over all workers of a float32 NDArray of one shape; not waited for.

        The same name and shape may be used again; worker by worker, exchanges keep their order.
        """
        if self.world_size == 1:
            return array
        assert self.store is not None, "several workers have a store"
        return self.store.all_reduce(name, array).as_in_context(array.context)

    def all_gather(self, array: np.ndarray) -> np.ndarray:
        """Return the float32 arrays of all workers, which have one shape: (world_size, *shape)."""
        rows = np.zeros((self.world_size, *array.shape), np.float32)
        rows[self.rank] = array
        return self.all_reduce(rows)

    def all_gather_async(self, name: str, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return the NDArrays of all workers, one after another: (N, ...) -> (world_size * N, ...); not waited for."""
        if self.world_size == 1:
            return array
        rows = mx.nd.zeros((self.world_size, *array.shape), ctx=array.context)
        rows[self.rank] = array
        return self.all_reduce_async(name, rows).reshape((-1, *array.shape[1:]))

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """Return worker 0's float32 array; the others pass one of the same shape, whose values do not matter."""
        return self.all_reduce(array if self.is_first else np.zeros_like(array))

    def broadcast_object(self, value: Any = None) -> Any:
        """Return worker 0's value, which JSON must be able to hold; what the others pass does not matter."""
        if self.world_size == 1:
            return value
        text = np.frombuffer(json.dumps(value).encode() if self.is_first else b"", np.uint8).astype(np.float32)
        length = int(self.broadcast(np.array([len(text)], np.float32))[0])
        text = self.broadcast(text if self.is_first else np.zeros(length, np.float32))
        return json.loads(text.astype(np.uint8).tobytes())

    def barrier(self) -> None:
        """Return when all workers have called it."""
        self.all_reduce(np.zeros(1, np.float32))

    def in_turn(self, action: Callable[[], Value]) -> Value:
        """Call `action` in one worker after the other, as some may share a disk, and return its value."""
        for rank in range(self.world_size):
            if rank == self.rank:
                result = action()
            self.barrier()
        return result

    def check_same(self, facts: dict[str, Any]) -> None:
        """Raise SettingError, naming what differs, where `facts` (JSON values) are not worker 0's."""
        if self.world_size == 1:
            return
        expected = self.broadcast_object(facts)
        given = json.loads(json.dumps(facts))
        different = sorted(name for name in expected if given.get(name) != expected[name])
        at = np.flatnonzero(self.all_gather(np.array([bool(different)], np.float32))[:, 0])
        if different:
            found = "; ".join(f"{name}: {expected[name]} there, {given.get(name)} here" for name in different)
            raise SettingError(f"worker {self.rank} was not given what worker 0 was ({found}); start all with the same")
        if len(at):
            time.sleep(_HEAD_START)
            raise ClusterError(
                f"worker {', '.join(map(str, at))} was not given what worker 0 was; its own message says what differs"
            )

    def check_identical(self, what: str, arrays: Sequence[mx.nd.NDArray]) -> None:
        """Raise TrainingError where arrays are not, byte for byte, those of worker 0."""
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array.asnumpy().tobytes())
        fingerprints = self.all_gather(np.frombuffer(digest.digest(), np.uint8).astype(np.float32))
        others = [str(rank) for rank in range(self.world_size) if (fingerprints[rank] != fingerprints[0]).any()]
        if others:
            raise TrainingError(
                f"{what} of worker {', '.join(others)} differ from worker 0's: its machine or its network is not sound; "
                "--resume continues from the last save"
            )

    def report(self, what: str, *, waiting: bool = False) -> None:
        """Report what this worker does; `waiting` where it can continue only together with the others."""
        self._doing = (what, waiting)
        self._send(what, waiting)

    def leave(self) -> None:
        """End this worker's part; returns when all workers have called it."""
        if self.store is not None:
            self.report("leaving", waiting=True)
            self.store.close()
            atexit.unregister(_end)

    def _send(self, what: str, waiting: bool) -> None:
        if self._heartbeat is not None:
            self._heartbeat.report(what, waiting=waiting)


ALONE = Cluster()


def join() -> Cluster:
    """Return the cluster that ``vargfacenet launch`` started this process in, or `ALONE`.

    A process that has joined ends without `Cluster.leave` only by failing. It then exits at once, as the store would wait
    for the other workers.

    Raises
    ------
    ClusterError
        Where only a part of the environment is there.
    """
    if os.environ.get("DMLC_ROLE", "worker") != "worker" or (RANK in os.environ) != ("DMLC_PS_ROOT_URI" in os.environ):
        raise ClusterError(
            "the environment has only a part of the variables that workers need (DMLC_*, VARGFACENET_*): start them by "
            "'vargfacenet launch'"
        )
    if RANK not in os.environ:
        return ALONE
    heartbeat = start_heartbeat()
    heartbeat.report(JOINING, waiting=True)
    atexit.register(_end)
    store = Store()
    heartbeat.report("preparing", waiting=False)
    return Cluster(int(os.environ[RANK]), int(os.environ[SIZE]), store, heartbeat)


def _end() -> None:
    sys.stdout.flush()
    os._exit(_FAILED)
