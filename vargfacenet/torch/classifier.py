"""A classifier whose identities are spread over workers, on torch.distributed.

It computes what `vargfacenet.train.classifier` computes on MXNet, from the same draws, and its states have the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mxnet as mx
import numpy as np
import torch
from torch.nn import functional

from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.symbols.heads import COSINE_LIMIT, Margin
from vargfacenet.torch.checkpoint import as_ndarray
from vargfacenet.train.classifier.sampling import Sampling, sample_rows
from vargfacenet.train.classifier.sharded import PART, shard_bounds
from vargfacenet.train.optimizer import SGD

_DRAWN = 4096  # rows whose initial weights are drawn at once, as on MXNet
_NORM_EPS = 1e-10  # that of mx.sym.L2Normalization
_KINDS = ("arg", "momentum")
State = dict[str, mx.nd.NDArray]


class TorchClassifier:
    """The slice of identities of one worker, the losses that all slices come to together, and the update of its rows.

    Parameters
    ----------
    shape
        Rows (identities) and columns, all workers together.
    device
        Where the slice is.
    cluster
        The workers; of several, a `TorchCluster`.
    sgd, margin, sampling, rescale
        As of `vargfacenet.train.classifier.ShardedClassifier`.

    Raises
    ------
    SettingError
        Where there are fewer identities than workers.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        device: torch.device,
        cluster: Any,
        sgd: SGD,
        margin: Margin | None = None,
        sampling: Sampling | None = None,
        rescale: float = 1.0,
    ) -> None:
        num_identities, embedding_size = shape
        if num_identities < cluster.world_size:
            raise SettingError(
                f"{num_identities} identities on {cluster.world_size} workers: expected at least one for each"
            )
        self._count, self._device, self._cluster, self._margin = num_identities, device, cluster, margin
        self._momentum, self._decay, self._clip = sgd.momentum, sgd.weight_decay, sgd.clip_gradient
        self._rescale, self._sampling = rescale, sampling or Sampling()
        self._start, self._stop = shard_bounds(num_identities, cluster.world_size)[cluster.rank : cluster.rank + 2]
        columns = {"weight": embedding_size, **({} if margin else {"bias": 1})}
        length = self._stop - self._start
        self._arrays = {
            kind: {name: torch.zeros(length, size, device=device) for name, size in columns.items()} for kind in _KINDS
        }
        self._pending: tuple[torch.Tensor | None, dict[str, torch.Tensor]] | None = None

    def initialise(self, *seeds: int) -> None:
        """Draw weights as MXNet's sharded classifier draws them: by the seeds alone, however they are spread."""
        deviation, weight = np.float32(np.sqrt(2 / self._count)), self._arrays["arg"]["weight"]
        for part in range(self._start // _DRAWN, (self._stop - 1) // _DRAWN + 1):
            random = np.random.default_rng(np.random.SeedSequence((*seeds, part)))
            drawn = random.standard_normal((_DRAWN, weight.shape[1]), np.float32) * deviation
            begin, end = max(self._start, part * _DRAWN), min(self._stop, (part + 1) * _DRAWN)
            rows = drawn[begin - part * _DRAWN : end - part * _DRAWN]
            weight[begin - self._start : end - self._start] = torch.from_numpy(rows)

    def descend(
        self, embedding: torch.Tensor, label: np.ndarray, *, update: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute losses, and the gradients that `update` takes.

        Parameters
        ----------
        embedding
            This worker's (N, embedding_size), without a gradient.
        label
            Identities (N,).
        update
            Decides the sample.

        Returns
        -------
        loss, correct, gradient
            Of this worker's samples, as `vargfacenet.train.classifier.ShardedClassifier.step` gives them.
        """
        own = slice(self._cluster.rank * len(embedding), (self._cluster.rank + 1) * len(embedding))
        label = self._cluster.all_gather(label.astype(np.float32)).reshape(-1).astype(np.int64)
        whole = self._gather(embedding).requires_grad_(True)
        here = np.flatnonzero((label >= self._start) & (label < self._stop))
        rows, places = self._rows(label[here] - self._start, update)
        taken = {name: value if rows is None else value[rows] for name, value in self._arrays["arg"].items()}
        leaves = {name: value.detach().requires_grad_(True) for name, value in taken.items()}
        samples = torch.from_numpy(here).to(self._device)
        targets = torch.from_numpy(places).to(self._device)
        with torch.enable_grad():
            plain, logits = self._logits(whole, leaves, samples, targets)
        loss, correct, gradient = self._losses(plain.detach(), logits.detach(), samples, targets)
        found = torch.autograd.grad(logits, [whole, *leaves.values()], gradient)
        self._pending = rows, dict(zip(leaves, found[1:]))
        return loss[own], correct[own], self._sum(found[0])[own]

    def _logits(
        self, whole: torch.Tensor, leaves: Mapping[str, torch.Tensor], samples: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of all samples for the rows that take part, without and with margin: (B, rows)."""
        if self._margin is None:
            plain = functional.linear(whole, leaves["weight"], leaves["bias"].reshape(-1))
            return plain, plain
        plain = functional.linear(_unit(whole), _unit(leaves["weight"]))
        change = margin_change(plain[samples, targets], self._margin)
        scale = self._margin.scale
        return scale * plain, scale * plain.index_put((samples, targets), change, accumulate=True)

    def _losses(
        self, plain: torch.Tensor, logits: torch.Tensor, samples: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return loss and correctness of all samples, (B,), and the gradient of the summed loss to this slice's logits."""
        largest = self._largest(logits.amax(1))
        exponentials = torch.exp(logits - largest[:, None])
        columns = torch.zeros(3, len(logits), device=self._device)  # sum of exponentials, logits of the true identities
        columns[0] = exponentials.sum(1)
        columns[1, samples] = logits[samples, targets]
        columns[2, samples] = plain[samples, targets]
        total, target, true = self._sum(columns)
        rivals = plain.clone()
        rivals[samples, targets] = -torch.inf
        correct = (true > self._largest(rivals.amax(1))).float()
        gradient = exponentials / total[:, None]
        gradient[samples, targets] -= 1
        return torch.log(total) + largest - target, correct, gradient

    def update(self, lr: float, skip: torch.Tensor) -> None:
        """Update the rows that took part; where `skip` is not 0 they stay as they are."""
        assert self._pending is not None  # `descend` comes first
        (rows, gradients), self._pending = self._pending, None
        keep = 1 - skip
        for name, gradient in gradients.items():
            weight, momentum = (self._arrays[kind][name] for kind in _KINDS)
            values, moving = (weight, momentum) if rows is None else (weight[rows], momentum[rows])
            step = torch.nan_to_num(gradient) * self._rescale
            step = step.clamp(-self._clip, self._clip) if self._clip else step
            decay = 0.0 if name == "bias" else self._decay  # as MXNet's optimizer does
            moved = torch.where(keep > 0, self._momentum * moving - lr * (step + decay * values), moving)
            values = values + keep * moved
            if rows is None:
                weight.copy_(values)
                momentum.copy_(moved)
            else:
                weight[rows] = values
                momentum[rows] = moved

    def state(self) -> State:
        """Return weights and momenta, in parts that are the same however they are spread. All workers must call it."""
        state = {}
        for key, array, part, begin, end in self._parts():
            values = np.zeros((end - begin, array.shape[1]), np.float32)
            low, high = max(begin, self._start), min(end, self._stop)
            if low < high:
                values[low - begin : high - begin] = as_ndarray(array[low - self._start : high - self._start]).asnumpy()
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
            low, high = max(begin, self._start), min(end, self._stop)
            if low < high:
                array[low - self._start : high - self._start] = torch.from_numpy(values[low - begin : high - begin])

    def _parts(self) -> Iterator[tuple[str, torch.Tensor, int, int, int]]:
        for kind in _KINDS:
            for name, array in self._arrays[kind].items():
                for part, begin in enumerate(range(0, self._count, PART)):
                    yield f"{kind}:fc7_{name}", array, part, begin, min(begin + PART, self._count)

    def _rows(self, positives: np.ndarray, update: int) -> tuple[torch.Tensor | None, np.ndarray]:
        """Return the rows that take part (None: all), and where among them those of the batch are."""
        if self._sampling.rate >= 1:
            return None, positives
        length = self._stop - self._start
        place = {"update": self._sampling.updates_before + update, "start": self._start}
        rows = sample_rows(length, self._sampling.rate, positives, seed=self._sampling.seed, **place)
        return torch.from_numpy(rows.astype(np.int64)).to(self._device), np.searchsorted(rows, positives)

    def _gather(self, embedding: torch.Tensor) -> torch.Tensor:
        if self._cluster.world_size == 1:
            return embedding.clone()
        rows = torch.zeros(self._cluster.world_size, *embedding.shape, device=self._device)
        rows[self._cluster.rank] = embedding
        return self._cluster.all_reduce_tensor(rows).reshape(-1, embedding.shape[1])

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self._cluster.world_size == 1 else self._cluster.all_reduce_tensor(tensor.contiguous())

    def _largest(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self._cluster.world_size == 1 else self._cluster.all_reduce_tensor(tensor, largest=True)


def margin_change(cosine: torch.Tensor, margin: Margin) -> torch.Tensor:
    """Return what the combined margin adds to cosines, as `vargfacenet.symbols.heads.margin_change`: (N,) -> (N,)."""
    cosine = cosine.clamp(-COSINE_LIMIT, COSINE_LIMIT)
    if (margin.m1, margin.m2) == (1.0, 0.0):
        return torch.full_like(cosine, -margin.m3)
    angle = margin.m1 * torch.arccos(cosine) + margin.m2
    turns = torch.floor(angle / torch.pi)
    return (1 - 2 * (turns % 2)) * torch.cos(angle) - 2 * turns - margin.m3 - cosine


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return rows * torch.rsqrt(rows.square().sum(1, keepdim=True) + _NORM_EPS)
