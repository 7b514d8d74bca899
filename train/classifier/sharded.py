"""A classifier whose identities are spread over devices, and over those of other workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.symbols.heads import Margin
from vargfacenet.train.classifier.sampling import Sampling, sample_rows
from vargfacenet.train.classifier.shard import Shard, Statistics, UpdateSettings
from vargfacenet.train.engine import Arrays
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime

PART = 65536  # rows of the classifier in one array of a saved state
_DRAWN = 4096  # rows whose initial weights are drawn at once
MOST_IDENTITIES = 1 << 24  # labels are float32


class ShardedClassifier:
    """The loss of `margin_softmax` or `softmax` of `vargfacenet.symbols.heads`, and the update of its weights.

    Each device of each worker holds a slice of the identities; sizes differ by one at most. In an update all shards
    receive all embeddings and labels. Then they exchange, for each sample, the largest logit, the sum of exponentials, the
    true identity's logit with and without margin, and their part of the gradient to the embeddings.

    Parameters
    ----------
    num_identities, embedding_size
        Rows and columns, all shards together.
    sgd
        The optimizer of weights and biases.
    margin
        Without it, plain softmax with a bias.
    sampling
        Identities that take part in an update. The others keep weights and momentum, without weight decay. The loss is
        over those that take part.
    rescale
        Multiplies the gradients of the summed loss, as in MXNet's ``sgd``.
    runtime
        Devices of this worker and the other workers, each with as many devices. Embeddings arrive and gradients are
        returned on the first device.

    Raises
    ------
    SettingError
        Where there are fewer identities than shards, or more than a label can name.
    """

    def __init__(
        self,
        *,
        num_identities: int,
        embedding_size: int,
        sgd: SGD,
        margin: Margin | None = None,
        sampling: Sampling | None = None,
        rescale: float = 1.0,
        runtime: Runtime | None = None,
    ) -> None:
        runtime = runtime or Runtime()
        devices, cluster = list(runtime.devices), runtime.cluster
        count = len(devices) * cluster.world_size
        if not count <= num_identities <= MOST_IDENTITIES:
            raise SettingError(
                f"{num_identities} identities on {count} device(s): expected at least one for each, and at most "
                f"{MOST_IDENTITIES}, whose numbers float32 labels hold"
            )
        self._margin, self._cluster, self._device = margin, cluster, devices[0]
        self._num_identities, self._sampling = num_identities, sampling or Sampling()
        self._schedule = sgd.schedule
        self._update = UpdateSettings(0.0, sgd.momentum, sgd.weight_decay, rescale, sgd.clip_gradient)
        bounds = shard_bounds(num_identities, count)
        mine = range(cluster.rank * len(devices), (cluster.rank + 1) * len(devices))
        self.shards = [
            Shard(bounds[number], bounds[number + 1], embedding_size, device, margin)
            for number, device in zip(mine, devices)
        ]

    def initialise(self, *seeds: int) -> None:
        """Draw weights like those of the network: Xavier, gaussian, by fan-out, magnitude 2. The rest becomes 0.

        The weights depend on the seeds alone, not on how the identities are spread.
        """
        deviation = np.float32(np.sqrt(2 / self._num_identities))
        for shard in self.shards:
            for array in (*shard.arrays.values(), *shard.momenta.values()):
                array[:] = 0
            weight = shard.arrays["weight"]
            for part in range(shard.start // _DRAWN, (shard.stop - 1) // _DRAWN + 1):
                random = np.random.default_rng(np.random.SeedSequence((*seeds, part)))
                drawn = random.standard_normal((_DRAWN, weight.shape[1]), np.float32)
                drawn *= deviation
                begin, end = max(shard.start, part * _DRAWN), min(shard.stop, (part + 1) * _DRAWN)
                weight[begin - shard.start : end - shard.start] = drawn[begin - part * _DRAWN : end - part * _DRAWN]

    def step(
        self, embedding: mx.nd.NDArray, label: Any, *, update: int
    ) -> tuple[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray]:
        """Make one update of the classifier.

        Parameters
        ----------
        embedding
            This worker's (N, embedding_size), on the first device.
        label
            Identities (N,), NDArray or array.
        update
            Number of the update in this schedule, 1 the first.

        Returns
        -------
        loss, correct, gradient
            For this worker's samples: the loss, (N,); 1 where the true identity's logit without margin is larger than
            those of all others that took part, else 0, (N,); and the gradient of the summed loss to `embedding`. Not
            waited for.
        """
        batch, settings = embedding.shape[0], self._update._replace(lr=self._schedule(update))
        own = slice(self._cluster.rank * batch, (self._cluster.rank + 1) * batch)
        embedding.attach_grad()
        with mx.autograd.record():
            data = mx.nd.L2Normalization(embedding, mode="instance") if self._margin else mx.nd.identity(embedding)
        whole, label = self._gather(data.detach(), label)
        parts = [
            shard.forward(whole.as_in_context(shard.device), label, self._rows(shard, label, update))
            for shard in self.shards
        ]
        found = self._join(parts)
        probability = mx.nd.exp(found.target - found.largest) / found.total
        loss = mx.nd.log(found.total) + found.largest - found.target
        gradient = mx.nd.zeros_like(whole)
        for shard in self.shards:
            joint = [array.as_in_context(shard.device) for array in (found.largest, found.total, probability - 1)]
            gradient += shard.backward(joint[0], joint[1], joint[2], settings).as_in_context(self._device)
        data.backward(self._cluster.all_reduce_async("classifier gradient", gradient)[own])
        return loss[own], (found.true > found.rival)[own], embedding.grad

    def state(self) -> Arrays:
        """Return weights and momenta by name, in parts that do not depend on how the identities are spread.

        All workers must call it; each gets all of it.
        """
        state = {}
        for kind, name, part, begin, end in self._parts():
            pieces = []
            for shard in self.shards:
                array = getattr(shard, _KINDS[kind])[name]
                low, high = max(begin, shard.start), min(end, shard.stop)
                if low < high:
                    pieces.append((low - begin, array[low - shard.start : high - shard.start].as_in_context(mx.cpu())))
            if self._cluster.world_size == 1:
                values = pieces[0][1] if len(pieces) == 1 else mx.nd.concat(*(rows for _, rows in pieces), dim=0)
            else:
                values = mx.nd.zeros((end - begin, array.shape[1]))
                for place, rows in pieces:
                    values[place : place + len(rows)] = rows
                values = self._cluster.all_reduce_async(f"state {name}", values)
            state[f"{kind}:fc7_{name}/{part}"] = values
        return state

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned; missing momenta become 0.

        All workers must call it; worker 0's argument counts.

        Raises
        ------
        CheckpointError
            Where weights are missing or misshapen.
        """
        for kind, name, part, begin, end in self._parts():
            key, columns = f"{kind}:fc7_{name}/{part}", self.shards[0].arrays[name].shape[1]
            values = state.get(key) if self._cluster.is_first else None
            if self._cluster.is_first and values is None and kind == "arg":
                raise CheckpointError(f"the state lacks {key} of the classifier; was it saved with head=sharded?")
            if values is not None and values.shape != (end - begin, columns):
                raise CheckpointError(f"the state's {key} has shape {values.shape}, expected {(end - begin, columns)}")
            if values is None:
                values = mx.nd.zeros((end - begin, columns))
            if self._cluster.world_size > 1:
                values = self._cluster.all_reduce_async(f"state {name}", values.copy())
            for shard in self.shards:
                low, high = max(begin, shard.start), min(end, shard.stop)
                if low < high:
                    getattr(shard, _KINDS[kind])[name][low - shard.start : high - shard.start] = values[
                        low - begin : high - begin
                    ]

    def _parts(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Yield kind, name, number and bounds of each array of the state."""
        for kind in _KINDS:
            for name in self.shards[0].arrays:
                for part, begin in enumerate(range(0, self._num_identities, PART)):
                    yield kind, name, part, begin, min(begin + PART, self._num_identities)

    def _rows(self, shard: Shard, label: np.ndarray, update: int) -> np.ndarray | None:
        """Return the rows of a shard that take part in an update; None for all."""
        rate, seed, updates_before = self._sampling
        if rate >= 1:
            return None
        local = label[(label >= shard.start) & (label < shard.stop)] - shard.start
        return sample_rows(len(shard), rate, local, seed=seed, update=updates_before + update, start=shard.start)

    def _gather(self, data: mx.nd.NDArray, label: Any) -> tuple[mx.nd.NDArray, np.ndarray]:
        """Return embeddings and labels of all workers: (world_size * N, embedding_size) and int64 (world_size * N,)."""
        if self._cluster.world_size > 1:
            label = mx.nd.array(label, ctx=data.context, dtype="float32").reshape((-1, 1))
            both = self._cluster.all_gather_async("embeddings and labels", mx.nd.concat(data, label, dim=1))
            data, label = both[:, :-1], both[:, -1].asnumpy()
        label = label.asnumpy() if isinstance(label, mx.nd.NDArray) else np.asarray(label)
        return data, label.astype(np.int64)

    def _join(self, parts: list[Statistics]) -> Statistics:
        """Return the statistics of all shards together, on the first device."""
        rows = [mx.nd.stack(*(value.as_in_context(self._device) for value in part)) for part in parts]
        mine = mx.nd.stack(*rows)  # (shards of this worker, fields, N)
        columns = Statistics(
            *self._cluster.all_gather_async("statistics", mine).transpose((1, 0, 2))
        )  # each (shards, N)
        largest = mx.nd.max(columns.largest, axis=0)
        shares = mx.nd.exp(mx.nd.broadcast_sub(columns.largest, largest.reshape((1, -1))))
        return Statistics(
            largest,
            mx.nd.sum(columns.total * shares, axis=0),
            mx.nd.sum(columns.target, axis=0),
            mx.nd.sum(columns.true, axis=0),
            mx.nd.max(columns.rival, axis=0),
        )


_KINDS = {"arg": "arrays", "momentum": "momenta"}


def shard_bounds(num_identities: int, count: int) -> list[int]:
    """Return the first identity of each of `count` shards, followed by the number of identities."""
    return [number * num_identities // count for number in range(count + 1)]
