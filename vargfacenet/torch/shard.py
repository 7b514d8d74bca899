"""One worker's slice of the classifier's rows in PyTorch: weights, momenta, their update, and their part of a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np
import torch

from vargfacenet.errors import CheckpointError
from vargfacenet.torch.checkpoint import as_ndarray
from vargfacenet.train.classifier.sharded import PART, shard_bounds
from vargfacenet.train.engine import Arrays
from vargfacenet.train.optimizer import SGD, AdamW, Optimizer

_DRAWN = 4096  # rows whose initial weights are drawn at once, as on MXNet


class RowStep(NamedTuple):
    """Learning rate and number of an update, 1 the first."""

    lr: float
    number: int


class TorchShard:
    """The rows of the identities ``start .. stop - 1``.

    Parameters
    ----------
    count
        Identities, all workers together.
    columns
        Names of the arrays, ``weight`` and with plain softmax ``bias``, and their numbers in a row.
    device
        Where the rows are.
    cluster
        The workers; of several, a `TorchCluster`.
    sgd, rescale
        As of `vargfacenet.train.classifier.ShardedClassifier`.

    Attributes
    ----------
    start, stop
        Bounds of the identities.
    arrays
        By name, each (stop - start, columns).
    slots
        What the optimizer keeps for them, by kind and name.
    """

    def __init__(
        self,
        count: int,
        columns: Mapping[str, int],
        *,
        device: torch.device,
        cluster: Any,
        sgd: Optimizer,
        rescale: float,
    ) -> None:
        self._count, self._device, self._cluster, self._sgd, self._rescale = count, device, cluster, sgd, rescale
        self.start, self.stop = shard_bounds(count, cluster.world_size)[cluster.rank : cluster.rank + 2]
        length = self.stop - self.start
        self.arrays = {name: torch.zeros(length, size, device=device) for name, size in columns.items()}
        self.slots = {
            kind: {name: torch.zeros(length, size, device=device) for name, size in columns.items()}
            for kind in sgd.slots
        }

    def initialise(self, *seeds: int) -> None:
        """Draw weights as MXNet's sharded classifier draws them: by the seeds alone, however they are spread."""
        deviation, weight = np.float32(np.sqrt(2 / self._count)), self.arrays["weight"]
        for part in range(self.start // _DRAWN, (self.stop - 1) // _DRAWN + 1):
            random = np.random.default_rng(np.random.SeedSequence((*seeds, part)))
            drawn = random.standard_normal((_DRAWN, weight.shape[1]), np.float32) * deviation
            begin, end = max(self.start, part * _DRAWN), min(self.stop, (part + 1) * _DRAWN)
            rows = drawn[begin - part * _DRAWN : end - part * _DRAWN]
            weight[begin - self.start : end - self.start] = torch.from_numpy(rows)

    def update(
        self, rows: torch.Tensor | None, gradients: Mapping[str, torch.Tensor], step: RowStep, skip: torch.Tensor
    ) -> None:
        """Update rows, all of them where `rows` is None; where `skip` is not 0 they stay as they are."""
        rule, keep = self._sgd, skip > 0
        for name, gradient in gradients.items():
            whole = [self.arrays[name], *(each[name] for each in self.slots.values())]
            values, *kept = whole if rows is None else (one[rows] for one in whole)
            scaled = gradient * self._rescale
            scaled = scaled.clamp(-rule.clip_gradient, rule.clip_gradient) if rule.clip_gradient else scaled
            decay = 0.0 if name == "bias" else rule.weight_decay  # as MXNet's optimizer does
            if isinstance(rule, AdamW):
                change, moved = _adamw(rule, step, values, scaled, kept, decay)
            else:
                change, moved = _sgd(rule, step, values, scaled, kept, decay)
            for array, new, old in zip(whole, [values + change, *moved], [values, *kept]):
                found = torch.where(
                    keep, old, new
                )  # not a product with 0, as numbers that are not finite stay so in it
                if rows is None:
                    array.copy_(found)
                else:
                    array[rows] = found

    def state(self) -> Arrays:
        """Return weights and momenta, in parts that are the same however they are spread. All workers must call it."""
        state = {}
        for key, array, part, begin, end in self._parts():
            values = np.zeros((end - begin, array.shape[1]), np.float32)
            low, high = max(begin, self.start), min(end, self.stop)
            if low < high:
                values[low - begin : high - begin] = as_ndarray(array[low - self.start : high - self.start]).asnumpy()
            state[f"{key}/{part}"] = mx.nd.array(self._cluster.all_reduce(values))
        return state

    def load_state(self, state: Mapping[str, mx.nd.NDArray]) -> None:
        """Take what `state` gave, from worker 0; momenta that are not there become 0. All workers must call it."""
        for key, array, part, begin, end in self._parts():
            values, shape = np.zeros((end - begin, array.shape[1]), np.float32), (end - begin, array.shape[1])
            given = state.get(f"{key}/{part}") if self._cluster.is_first else None
            if given is None and self._cluster.is_first and key.startswith("arg:"):
                raise CheckpointError(
                    f"the state lacks {key}/{part} of the classifier; was it saved with head=sharded?"
                )
            if given is not None:
                if given.shape != shape:
                    raise CheckpointError(f"the state's {key}/{part} has shape {given.shape}, expected {shape}")
                values = given.asnumpy()
            values = self._cluster.broadcast(values)
            low, high = max(begin, self.start), min(end, self.stop)
            if low < high:
                array[low - self.start : high - self.start] = torch.from_numpy(values[low - begin : high - begin])

    def _parts(self) -> Iterator[tuple[str, torch.Tensor, int, int, int]]:
        """Yield key, array, number and bounds of each array of the state."""
        for kind, arrays in {"arg": self.arrays, **self.slots}.items():
            for name, array in arrays.items():
                for part, begin in enumerate(range(0, self._count, PART)):
                    yield f"{kind}:fc7_{name}", array, part, begin, min(begin + PART, self._count)


def _sgd(
    rule: SGD, step: RowStep, values: torch.Tensor, gradient: torch.Tensor, kept: list[torch.Tensor], decay: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the change of rows, and their momentum after it."""
    moved = rule.momentum * kept[0] - step.lr * (gradient + decay * values)
    return moved, [moved]


def _adamw(
    rule: AdamW, step: RowStep, values: torch.Tensor, gradient: torch.Tensor, kept: list[torch.Tensor], decay: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the change of rows, and their mean gradient and mean square after it."""
    mean = rule.beta1 * kept[0] + (1 - rule.beta1) * gradient
    variance = rule.beta2 * kept[1] + (1 - rule.beta2) * gradient.square()
    root = (variance / (1 - rule.beta2**step.number)).sqrt() + rule.epsilon
    return -step.lr * (mean / (1 - rule.beta1**step.number) / root + decay * values), [mean, variance]
