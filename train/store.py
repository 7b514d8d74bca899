"""MXNet's parameter server as a place where arrays are summed over workers."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np


class Store(mx.kv.KVStoreBase):
    """MXNet's ``dist_sync`` parameter server, used for sums and nothing else.

    A Module accepts it as its parameter store. Name and shape make the key of an array, so that several trainings can
    follow one another. The sum overwrites what was pushed. All workers must exchange the same arrays in the same order.
    """

    def __init__(self) -> None:
        # "device": sums over the devices of a worker are made on these.
        self._store = mx.kv.create("dist_device_sync")
        self._known: set[str] = set()
        self._sums: dict[str, mx.nd.NDArray] = {}

    def all_reduce(self, name: str, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return the sum of an array over all workers; not waited for."""
        # One array for all sums of this key. MXNet starts a push before the previous one of that key has been summed,
        # and then adds both up, unless both are of the same array.
        key = _key(name, array)
        if key not in self._sums:
            self.init(name, array)
            self._sums[key] = mx.nd.empty(array.shape, dtype=array.dtype)
        place = self._sums[key]
        place[:] = array
        self.pushpull(name, place)
        return place.copy()

    # The interface that a Module expects; the names are MXNet's.

    def init(self, key: str, value: mx.nd.NDArray) -> None:
        key = _key(key, value)
        if key not in self._known:
            self._known.add(key)
            self._store.init(key, mx.nd.zeros(value.shape, dtype=value.dtype))

    def pushpull(self, key: str, value: Any, out: Any = None, priority: int = 0) -> None:
        key = _key(key, value[0] if isinstance(value, (list, tuple)) else value)
        self._store.push(key, value, priority=priority)
        self._store.pull(key, out=value if out is None else out, priority=priority)

    def broadcast(self, key: str, value: Any, out: Any, priority: int = 0) -> None:
        raise NotImplementedError("a Module that updates its own parameters does not ask for this")

    def close(self) -> None:
        """Leave the store; returns when all workers have called it."""
        mx.nd.waitall()
        self._store = None

    @staticmethod
    def is_capable(capability: str) -> bool:
        """Return False: the store updates no parameters, each worker does that itself."""
        return False

    @property
    def type(self) -> str:
        return "dist_sync"

    @property
    def rank(self) -> int:
        return self._store.rank

    @property
    def num_workers(self) -> int:
        return self._store.num_workers


def _key(name: str, array: mx.nd.NDArray) -> str:
    return f"{name} {'x'.join(map(str, array.shape))} {np.dtype(array.dtype).name}"
