"""A classifier whose identities are spread over devices, and over those of other workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError
from vargfacenet.symbols.heads import Margin
from vargfacenet.symbols.margins import CosineHead
from vargfacenet.train.classifier.identities import cosine_head, drawn_rows, part_bounds, shard_bounds
from vargfacenet.train.classifier.margin_targets import Target
from vargfacenet.train.classifier.row_update import RowUpdate
from vargfacenet.train.classifier.sampling import Sampling, sample_rows
from vargfacenet.train.classifier.shard import Shard, Statistics
from vargfacenet.train.classifier.targets import Targets, follow
from vargfacenet.train.engine import Arrays
from vargfacenet.train.optimizer import Optimizer
from vargfacenet.train.runtime import Runtime

_SQUARE_EPS = 1e-10  # keeps the slope of an embedding's length finite


class ShardedClassifier:
    """The loss of `softmax` of `vargfacenet.symbols.heads` or `margin_head` of `vargfacenet.symbols.margins`, and the update
    of its weights.

    Each device of each worker holds a slice of the identities; sizes differ by one at most. In an update all shards
    receive all embeddings and labels. Then they exchange, for each sample, the true identity's cosine, the largest logit,
    the sum of exponentials, and their part of the gradient to the embeddings.

    Parameters
    ----------
    num_identities, embedding_size
        Rows and columns, all shards together.
    sgd
        The optimizer of weights and biases.
    margin
        A margin with its scale, or a head with any margin loss; without it, plain softmax with a bias.
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
        sgd: Optimizer,
        margin: Margin | CosineHead | None = None,
        sampling: Sampling | None = None,
        rescale: float = 1.0,
        runtime: Runtime | None = None,
    ) -> None:
        runtime = runtime or Runtime()
        devices, cluster = list(runtime.devices), runtime.cluster
        bounds, margin = shard_bounds(num_identities, len(devices) * cluster.world_size), cosine_head(margin)
        self._head, self._cluster, self._device = margin, cluster, devices[0]
        self._num_identities, self._sampling = num_identities, sampling or Sampling()
        scale, centres = (margin.scale, margin.centres) if margin else (None, 1)
        self._targets = Targets(margin.margin if margin else None, scale or 1.0, self._sampling.seed, devices[0])
        self._schedule = sgd.schedule
        self._update = RowUpdate(sgd, rescale)
        mine = range(cluster.rank * len(devices), (cluster.rank + 1) * len(devices))
        self.shards = [
            Shard(bounds[number], bounds[number + 1], embedding_size, device, scale, centres, sgd.slots)
            for number, device in zip(mine, devices)
        ]

    @property
    def reads_teacher(self) -> bool:
        """True where `step` needs the teacher's embeddings."""
        return self._head is not None and self._head.reads_teacher

    def initialise(self, *seeds: int) -> None:
        """Draw weights as `drawn_rows` does. The rest becomes 0."""
        for shard in self.shards:
            for array in (array for arrays in shard.by_kind.values() for array in arrays.values()):
                array[:] = 0
            weight = shard.arrays["weight"]
            for place, rows in drawn_rows((shard.start, shard.stop), weight.shape[1], self._num_identities, seeds):
                weight[place] = rows

    def step(
        self, embedding: mx.nd.NDArray, label: Any, *, update: int, teacher: mx.nd.NDArray | None = None
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
        teacher
            The teacher's embeddings, (N, embedding_size), for a loss that reads them.

        Returns
        -------
        loss, correct, gradient
            For this worker's samples: the loss, (N,); 1 where the true identity's logit without margin is larger than
            those of all others that took part, else 0, (N,); and the gradient of the summed loss to `embedding`. Not
            waited for.
        """
        batch, head = embedding.shape[0], self._head
        lr = 0.0 if head and (head.frozen or head.follows) else self._schedule(update)
        settings = self._update._replace(lr=lr, number=update)
        own = slice(self._cluster.rank * batch, (self._cluster.rank + 1) * batch)
        embedding.attach_grad()
        with mx.autograd.record():
            data = mx.nd.L2Normalization(embedding, mode="instance") if head else mx.nd.identity(embedding)
            norm = mx.nd.sqrt(mx.nd.sum(mx.nd.square(embedding), axis=1) + _SQUARE_EPS)
        whole, norms, taught, label = self._gather(data.detach(), norm.detach(), teacher, label)
        if head and head.follows:
            for shard in self.shards:
                follow(shard, whole, taught, label, weighted=head.weighted)
        true = self._true_cosines("true", whole, label)
        sure = self._true_cosines("teacher", taught, label) if head and head.margin.reads_teacher else None
        target = self._targets.of(true, norms, sure, self._sampling.updates_before + update)
        found = self._join([self._forward(shard, whole, label, target, update) for shard in self.shards])
        probability = mx.nd.exp(target.logit - found.largest) / found.total
        change = (probability - 1) * target.slope
        loss = mx.nd.log(found.total) + found.largest - target.logit + target.penalty
        gradient = mx.nd.zeros_like(whole)
        for shard in self.shards:
            joint = [array.as_in_context(shard.device) for array in (found.largest, found.total, change)]
            gradient += shard.backward(joint[0], joint[1], joint[2], settings).as_in_context(self._device)
        scale = head.scale if head else 1.0
        by_norm = scale * (probability - 1) * target.norm_slope + target.penalty_slope
        by_data = self._cluster.all_reduce_async("classifier gradient", gradient)
        mx.autograd.backward([data, norm], [by_data[own], by_norm[own]])
        return loss[own], (scale * true > found.rival)[own], embedding.grad

    def _forward(
        self, shard: Shard, whole: mx.nd.NDArray, label: np.ndarray, target: Target, update: int
    ) -> Statistics:
        """Return a shard's statistics."""
        data, logit = (array.as_in_context(shard.device) for array in (whole, target.logit))
        return shard.forward(data, label, logit, self._rows(shard, label, update), self._targets.weigh)

    def _true_cosines(self, name: str, data: mx.nd.NDArray, label: np.ndarray) -> mx.nd.NDArray:
        """Return the cosine of embeddings of all workers to the own identity, with plain softmax the logit: (N,)."""
        parts = [shard.true_cosines(data.as_in_context(shard.device), label) for shard in self.shards]
        total = sum((part.as_in_context(self._device) for part in parts[1:]), parts[0].as_in_context(self._device))
        return self._cluster.all_reduce_async(f"{name} cosines", total)

    def state(self) -> Arrays:
        """Return weights, momenta and moving means by name, in parts that do not depend on how identities are spread.

        All workers must call it; each gets all of it.
        """
        state = {}
        for kind, name, part, begin, end in self._parts():
            pieces = []
            for shard in self.shards:
                array = shard.by_kind[kind][name]
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
        averages = self._targets.averages
        state.update({f"aux:fc7_{name}": value.copyto(mx.cpu()) for name, value in averages.items()})
        return state

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned; missing momenta become 0.

        All workers must call it; worker 0's argument counts.

        Raises
        ------
        CheckpointError
            Where weights or moving means are missing, or weights are misshapen.
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
                    shard.by_kind[kind][name][low - shard.start : high - shard.start] = values[
                        low - begin : high - begin
                    ]
        for name, average in self._targets.averages.items():
            value = state.get(f"aux:fc7_{name}") if self._cluster.is_first else mx.nd.zeros_like(average)
            if value is None:
                raise CheckpointError(f"the state lacks aux:fc7_{name} of the margin loss; was it saved with another?")
            value = value.as_in_context(self._device).copy()
            if self._cluster.world_size > 1:
                value = self._cluster.all_reduce_async(f"state {name}", value)
            self._targets.averages[name] = value

    def _parts(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Yield kind, name, number and bounds of each array of the state."""
        for kind in self.shards[0].by_kind:
            for name in self.shards[0].arrays:
                for part, begin, end in part_bounds(self._num_identities):
                    yield kind, name, part, begin, end

    def _rows(self, shard: Shard, label: np.ndarray, update: int) -> np.ndarray | None:
        """Return the rows of a shard that take part in an update; None for all."""
        rate, seed, updates_before = self._sampling
        if rate >= 1:
            return None
        local = label[(label >= shard.start) & (label < shard.stop)] - shard.start
        return sample_rows(len(shard), rate, local, seed=seed, update=updates_before + update, start=shard.start)

    def _gather(
        self, data: mx.nd.NDArray, norm: mx.nd.NDArray, teacher: mx.nd.NDArray | None, label: Any
    ) -> tuple[mx.nd.NDArray, mx.nd.NDArray, Any, np.ndarray]:
        """Return embeddings, their lengths, the teacher's embeddings or None, and labels of all workers.

        Shapes are (world_size * N, embedding_size) and (world_size * N,); the teacher's embeddings are l2-normalized, labels
        int64.
        """
        if teacher is not None:
            teacher = mx.nd.L2Normalization(teacher.as_in_context(data.context), mode="instance")
        if self._cluster.world_size > 1:
            label = mx.nd.array(label, ctx=data.context, dtype="float32")
            columns = [data, norm.reshape((-1, 1)), label.reshape((-1, 1))] + ([] if teacher is None else [teacher])
            everything = self._cluster.all_gather_async("embeddings and labels", mx.nd.concat(*columns, dim=1))
            size = data.shape[1]
            data, norm, label = everything[:, :size], everything[:, size], everything[:, size + 1].asnumpy()
            teacher = None if teacher is None else everything[:, size + 2 :]
        label = label.asnumpy() if isinstance(label, mx.nd.NDArray) else np.asarray(label)
        return data, norm, teacher, label.astype(np.int64)

    def _join(self, parts: list[Statistics]) -> Statistics:
        """Return the statistics of all shards together, on the first device."""
        rows = [mx.nd.stack(*(value.as_in_context(self._device) for value in part)) for part in parts]
        mine = mx.nd.stack(*rows)  # (shards of this worker, fields, N)
        columns = Statistics(
            *self._cluster.all_gather_async("statistics", mine).transpose((1, 0, 2))
        )  # each (shards, N)
        largest = mx.nd.max(columns.largest, axis=0)
        shares = mx.nd.exp(mx.nd.broadcast_sub(columns.largest, largest.reshape((1, -1))))
        return Statistics(largest, mx.nd.sum(columns.total * shares, axis=0), mx.nd.max(columns.rival, axis=0))
