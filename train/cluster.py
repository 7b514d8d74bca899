"""What a worker knows of the others: who they are, and sums over all of them on MXNet's parameter server."""

import atexit
import hashlib
import json
import os
import sys
import time

import mxnet as mx
import numpy as np

from vargfacenet.errors import ClusterError, SettingError, TrainingError
from vargfacenet.launch.heartbeat import start_heartbeat
from vargfacenet.launch.member import RANK, SIZE
from vargfacenet.launch.membership import JOINING

_FAILED = 2  # exit status
_HEAD_START = 5.0  # seconds for a worker that knows what is wrong to say so first
_SIZES = (1 << 10, 1 << 20)  # numbers in an exchange: of little, and of each part of much


class Cluster:
    """The workers of a run; by default the only one there is, to which nothing here costs anything.

    All workers must call the same methods in the same order: each waits until the others have done so too.

    Parameters
    ----------
    rank, size : int
        Which worker this is, 0 .. size - 1, and how many there are.
    store : Store, optional
        Where they exchange; needed where there are several.
    heartbeat : Heartbeat, optional
        To whom to say what this worker is at.

    Attributes
    ----------
    wish : int
        The signal that asks this worker to stop, 0 for none; `mean` tells the others.
    """

    def __init__(self, rank=0, size=1, store=None, heartbeat=None):
        self.rank, self.size, self.store = rank, size, store
        self._heartbeat, self._doing = heartbeat, ("preparing", False)
        self.wish = 0

    @property
    def is_first(self):
        """Whether this is worker 0, which alone writes (bool)."""
        return self.rank == 0

    def sum(self, array):
        """The sum over all workers of a float32 array, of the same shape in each."""
        if self.size == 1:
            return array
        self._tell(self._doing[0], True)
        flat, place = np.ascontiguousarray(array, np.float32).ravel(), 0
        total = np.empty_like(flat)
        while place < len(flat):
            length = _SIZES[len(flat) - place > _SIZES[0]]
            part = np.zeros(length, np.float32)
            taken = min(length, len(flat) - place)
            part[:taken] = flat[place : place + taken]
            total[place : place + taken] = self.store.sum(f"exchange {length}", mx.nd.array(part)).asnumpy()[:taken]
            place += taken
        self._tell(*self._doing)
        return total.reshape(array.shape)

    def gather(self, array):
        """The float32 arrays of all workers, of one shape: (size, *shape)."""
        rows = np.zeros((self.size, *array.shape), np.float32)
        rows[self.rank] = array
        return self.sum(rows)

    def spread(self, array):
        """Worker 0's float32 array, to all; the others give one of the same shape, whose values do not matter."""
        return self.sum(array if self.is_first else np.zeros_like(array))

    def share(self, value=None):
        """Worker 0's value, to all: what JSON can hold. What the others give does not matter."""
        if self.size == 1:
            return value
        text = np.frombuffer(json.dumps(value).encode() if self.is_first else b"", np.uint8).astype(np.float32)
        length = int(self.spread(np.array([len(text)], np.float32))[0])
        text = self.spread(text if self.is_first else np.zeros(length, np.float32))
        return json.loads(text.astype(np.uint8).tobytes())

    def total(self, number):
        """The sum over all workers of a number (float)."""
        return float(self.sum(np.array([number], np.float32))[0])

    def wait(self):
        """Waits until all workers have come here."""
        self.sum(np.zeros(1, np.float32))

    def in_turn(self, action):
        """What `action` gives, called by one worker after the other, as some may share a disk."""
        for rank in range(self.size):
            if rank == self.rank:
                result = action()
            self.wait()
        return result

    def mean(self, outputs):
        """Means over all workers of what a graph gives (dict of name to NDArray), not waited for: dict of name to NDArray
        (1,). The only worker gets its own, as they are. Several get ``wish`` too, above 0 where a worker's is."""
        if self.size == 1:
            return outputs
        outputs = {**outputs, "wish": mx.nd.array([self.wish])}
        means = mx.nd.concat(*(value.mean().reshape((1,)).as_in_context(mx.cpu()) for value in outputs.values()), dim=0)
        means = self.store.sum("means", means) / self.size
        return {name: means[place : place + 1] for place, name in enumerate(outputs)}

    def check_same(self, facts):
        """SettingError, naming what differs, where `facts` (dict of JSON values) are not worker 0's."""
        if self.size == 1:
            return
        expected = self.share(facts)
        given = json.loads(json.dumps(facts))
        different = sorted(name for name in expected if given.get(name) != expected[name])
        at = np.flatnonzero(self.gather(np.array([bool(different)], np.float32))[:, 0])
        if different:
            told = "; ".join(f"{name}: {expected[name]} there, {given.get(name)} here" for name in different)
            raise SettingError(f"worker {self.rank} was not given what worker 0 was ({told}); start all with the same")
        if len(at):
            time.sleep(_HEAD_START)
            raise ClusterError(
                f"worker {', '.join(map(str, at))} was not given what worker 0 was; it says what differs"
            )

    def check_alike(self, what, arrays):
        """TrainingError where arrays (list of NDArray) are not, byte for byte, those of worker 0."""
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array.asnumpy().tobytes())
        marks = self.gather(np.frombuffer(digest.digest(), np.uint8).astype(np.float32))
        others = [str(rank) for rank in range(self.size) if (marks[rank] != marks[0]).any()]
        if others:
            raise TrainingError(
                f"{what} of worker {', '.join(others)} differ from worker 0's: its machine or its network is not sound; "
                "--resume goes on from the last save"
            )

    def report(self, what, *, waiting=False):
        """Says what this worker is at (str); `waiting` where it can go on only with the others."""
        self._doing = (what, waiting)
        self._tell(what, waiting)

    def _tell(self, what, waiting):
        if self._heartbeat is not None:
            self._heartbeat.report(what, waiting=waiting)

    def leave(self):
        """Ends this worker's part, when all have come here."""
        if self.store is not None:
            self.report("leaving", waiting=True)
            self.store.close()
            atexit.unregister(_end)


class Store(mx.kv.KVStoreBase):
    """MXNet's ``dist_sync`` parameter store as a place where gradients are summed, and nothing else.

    A Module takes it for a store. Each array has the key of its name and shape, so that several trainings may follow one
    another. What is pushed is overwritten by the sum. Workers must exchange the same things in the same order.
    """

    def __init__(self):
        # Sums over the devices of a worker are made on these.
        self._store = mx.kv.create("dist_device_sync")
        self._known, self._sums = set(), {}

    def sum(self, name, array):
        """The sum over all workers of an NDArray; not waited for."""
        # One array for all that go by this name: a push does not wait until what was pushed before it has been summed
        # unless both are of one array, and would be added to that.
        key = _key(name, array)
        if key not in self._sums:
            self.init(name, array)
            self._sums[key] = mx.nd.empty(array.shape, dtype=array.dtype)
        place = self._sums[key]
        place[:] = array
        self.pushpull(name, place)
        return place.copy()

    def init(self, key, value):
        key = _key(key, value)
        if key not in self._known:
            self._known.add(key)
            self._store.init(key, mx.nd.zeros(value.shape, dtype=value.dtype))

    def pushpull(self, key, value, out=None, priority=0):
        key = _key(key, value[0] if isinstance(value, (list, tuple)) else value)
        self._store.push(key, value, priority=priority)
        self._store.pull(key, out=value if out is None else out, priority=priority)

    # What MXNet's Trainer and Module may ask of any store.
    def broadcast(self, key, value, out, priority=0):
        raise NotImplementedError("a Module that updates its own parameters does not ask for this")

    def close(self):
        """Leaves the store, when all workers have come here."""
        mx.nd.waitall()
        self._store = None

    @staticmethod
    def is_capable(capability):
        return False  # in particular of updating parameters, which each worker does itself

    @property
    def type(self):
        return "dist_sync"

    @property
    def rank(self):
        return self._store.rank

    @property
    def num_workers(self):
        return self._store.num_workers


ALONE = Cluster()


def join():
    """The cluster that ``vargfacenet launch`` started this process in; `ALONE` where it was not.

    A process that has joined ends without `Cluster.leave` only by failing: it then ends at once at its exit, as the store
    would wait for the others.

    Raises
    ------
    ClusterError
        Where only a part of the environment is there.
    """
    if os.environ.get("DMLC_ROLE", "worker") != "worker" or (RANK in os.environ) != ("DMLC_PS_ROOT_URI" in os.environ):
        raise ClusterError(
            "the environment has a part of what workers are told (DMLC_*, VARGFACENET_*): start them by 'vargfacenet launch'"
        )
    if RANK not in os.environ:
        return ALONE
    heartbeat = start_heartbeat()
    heartbeat.report(JOINING, waiting=True)
    atexit.register(_end)
    store = Store()
    heartbeat.report("preparing", waiting=False)
    return Cluster(int(os.environ[RANK]), int(os.environ[SIZE]), store, heartbeat)


def _key(name, array):
    return f"{name} {'x'.join(map(str, array.shape))} {np.dtype(array.dtype).name}"


def _end():
    sys.stdout.flush()
    os._exit(_FAILED)
