"""A classifier whose identities are spread over workers, on torch.distributed.

It computes what `vargfacenet.train.classifier` computes on MXNet, from the same draws, and its states have the same arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np
import torch
from torch.nn import functional

from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.symbols.heads import Margin
from vargfacenet.symbols.margins import CosineHead
from vargfacenet.symbols.margins.combined import Combined
from vargfacenet.torch.checkpoint import as_ndarray
from vargfacenet.torch.custom import moved_centres
from vargfacenet.torch.margins import TorchTargets
from vargfacenet.torch.shard import RowStep, TorchShard
from vargfacenet.torch.transfers import to_device
from vargfacenet.train.classifier.sampling import Sampling, sample_rows
from vargfacenet.train.classifier.sharded import MOST_IDENTITIES
from vargfacenet.train.engine import Arrays
from vargfacenet.train.optimizer import Optimizer

_NORM_EPS = 1e-10  # that of mx.sym.L2Normalization


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
        Where there are fewer identities than workers, or more than a label can name.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        device: torch.device,
        cluster: Any,
        sgd: Optimizer,
        margin: Margin | CosineHead | None = None,
        sampling: Sampling | None = None,
        rescale: float = 1.0,
    ) -> None:
        num_identities, embedding_size = shape
        if not cluster.world_size <= num_identities <= MOST_IDENTITIES:
            raise SettingError(
                f"{num_identities} identities on {cluster.world_size} workers: expected at least one for each, and at most "
                f"{MOST_IDENTITIES}, whose numbers float32 labels hold"
            )
        if isinstance(margin, Margin):
            margin = CosineHead(Combined(margin.m1, margin.m2, margin.m3), margin.scale)
        self._device, self._cluster, self._head = device, cluster, margin
        self._sampling = sampling or Sampling()
        scale, centres = (margin.scale, margin.centres) if margin else (1.0, 1)
        self._targets = TorchTargets(margin.margin if margin else None, scale, self._sampling.seed, device)
        columns = {"weight": centres * embedding_size, **({} if margin else {"bias": 1})}
        self._shard = TorchShard(num_identities, columns, device=device, cluster=cluster, sgd=sgd, rescale=rescale)
        self._start, self._stop = self._shard.start, self._shard.stop
        self._update = 0  # number of the last update
        self._pending: tuple[torch.Tensor | None, dict[str, torch.Tensor]] | None = None

    @property
    def reads_teacher(self) -> bool:
        """True where `descend` needs the teacher's embeddings."""
        return self._head is not None and self._head.reads_teacher

    def initialise(self, *seeds: int) -> None:
        """Draw weights as MXNet's sharded classifier draws them: by the seeds alone, however they are spread."""
        self._shard.initialise(*seeds)

    def descend(
        self, embedding: torch.Tensor, label: np.ndarray, *, update: int, teacher: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute losses, and the gradients that `update` takes.

        Parameters
        ----------
        embedding
            This worker's (N, embedding_size), without a gradient.
        label
            Identities (N,).
        update
            Decides the sample of identities, and what the loss draws.
        teacher
            The teacher's embeddings, (N, embedding_size), for a loss that reads them.

        Returns
        -------
        loss, correct, gradient
            Of this worker's samples, as `vargfacenet.train.classifier.ShardedClassifier.step` gives them.
        """
        self._update = update
        own = slice(self._cluster.rank * len(embedding), (self._cluster.rank + 1) * len(embedding))
        label = self._cluster.all_gather(label.astype(np.float32)).reshape(-1).astype(np.int64)
        whole = self._gather(embedding)
        taught = None if teacher is None else _unit(self._gather(teacher))
        here = np.flatnonzero((label >= self._start) & (label < self._stop))
        positives = label[here] - self._start
        rows, places = self._rows(positives, update)
        samples, targets = (to_device(torch.from_numpy(part), self._device) for part in (here, places))
        if self._head is not None and self._head.follows:
            self._follow(_unit(whole)[samples], taught, samples, positives)
        leaves = {
            name: (value if rows is None else value[rows]).detach().requires_grad_(True)
            for name, value in self._shard.arrays.items()
        }
        whole.requires_grad_(True)
        with torch.enable_grad():
            plain, norm, centres = self._scores(whole, leaves)
        true = self._of_own(plain.detach(), samples, targets)
        draw = self._targets.draw(len(true), self._sampling.updates_before + update)
        draw = None if draw is None else to_device(draw, self._device)
        sure = self._teacher_cosines(centres, taught, samples, targets)
        target = self._targets.of(true, norm.detach(), sure, draw)
        with torch.enable_grad():
            weighed = self._targets.weighed(plain)
        scale = self._head.scale if self._head else 1.0
        logits = (scale * weighed.detach()).index_put((samples, targets), target.logit[samples])
        correct = scale * true > self._rivals(scale * plain.detach(), samples, targets)
        loss, probability, gradient = self._losses(logits, target.logit)
        # Cosines to the own identities have a gradient of their own, by the slope of the margin.
        gradient = scale * gradient.index_put((samples, targets), torch.zeros((), device=self._device))
        change = scale * (probability - 1)
        found = torch.autograd.grad(
            [weighed, plain],
            [whole, *leaves.values()],
            [gradient, torch.zeros_like(plain).index_put((samples, targets), (change * target.slope)[samples])],
            retain_graph=True,
        )
        self._pending = rows, dict(zip(leaves, found[1:]))
        by_norm = change * target.norm_slope + target.penalty_slope
        [of_norm] = torch.autograd.grad(norm, [whole], by_norm)
        total = self._sum(found[0]) + of_norm
        return (loss + target.penalty)[own], correct.float()[own], total[own]

    def _scores(
        self, whole: torch.Tensor, leaves: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what all samples score for the rows that take part, and lengths.

        The first is cosines or the logits of plain softmax, (B, rows), the second the lengths of the embeddings, (B,), the
        third the rows' centres at length 1, (rows, centres, embedding_size).
        """
        norm = torch.sqrt(whole.square().sum(1) + _NORM_EPS)
        weight = leaves["weight"]
        if self._head is None:
            return functional.linear(whole, weight, leaves["bias"].reshape(-1)), norm, weight.unsqueeze(1)
        centres = self._head.centres
        directions = _unit(weight.reshape(len(weight) * centres, -1))
        plain = functional.linear(_unit(whole), directions)
        if centres > 1:
            plain = plain.reshape(len(whole), len(weight), centres).max(2).values
        return plain, norm, directions.reshape(len(weight), centres, -1)

    def _of_own(self, plain: torch.Tensor, samples: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each sample's score for its own identity, wherever that is: (B,)."""
        found = torch.zeros(len(plain), device=self._device)
        return self._sum(found.index_put((samples,), plain[samples, targets]))

    def _teacher_cosines(
        self, centres: torch.Tensor, taught: torch.Tensor | None, samples: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the cosine of the teacher's embeddings to the own identities, (B,), for a loss that reads it."""
        if self._head is None or not self._head.margin.reads_teacher:
            return None
        assert taught is not None  # as the loss reads it
        cosines = (centres.detach()[targets] * taught[samples].unsqueeze(1)).sum(2).amax(1)
        return self._sum(torch.zeros(len(taught), device=self._device).index_put((samples,), cosines))

    def _follow(
        self, student: torch.Tensor, taught: torch.Tensor | None, samples: torch.Tensor, positives: np.ndarray
    ) -> None:
        """Move the centres of the batch's identities that are here, as `vargfacenet.symbols.margins.adadistill` does."""
        assert self._head is not None
        assert taught is not None  # as the loss reads it
        weight, places = self._shard.arrays["weight"], to_device(torch.from_numpy(positives), self._device)
        weighted = self._head.weighted
        weight[places] = moved_centres(weight[places], places, student, taught[samples], weighted=weighted)

    def _rivals(self, plain: torch.Tensor, samples: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each sample's largest score for another identity, (B,)."""
        others = plain.index_put((samples, targets), torch.full((), -torch.inf, device=self._device))
        return self._largest(others.amax(1))

    def _losses(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return loss and probability of the own identity of all samples, (B,), and of all identities here, (B, rows)."""
        largest = self._largest(logits.amax(1))
        exponentials = torch.exp(logits - largest[:, None])
        total = self._sum(exponentials.sum(1))
        return torch.log(total) + largest - target, torch.exp(target - largest) / total, exponentials / total[:, None]

    def update(self, lr: float, skip: torch.Tensor) -> None:
        """Update the rows that took part; where `skip` is not 0 they stay as they are."""
        assert self._pending is not None  # `descend` comes first
        (rows, gradients), self._pending = self._pending, None
        if self._head is None or not (self._head.frozen or self._head.follows):
            self._shard.update(rows, gradients, RowStep(lr, self._update), skip)

    def state(self) -> Arrays:
        """Return weights, momenta and moving means, in parts that do not depend on how identities are spread.

        All workers must call it.
        """
        averages = self._targets.averages
        return {**self._shard.state(), **{f"aux:fc7_{name}": as_ndarray(value) for name, value in averages.items()}}

    def load_state(self, state: Mapping[str, mx.nd.NDArray]) -> None:
        """Take what `state` gave, from worker 0; momenta that are not there become 0. All workers must call it."""
        self._shard.load_state(state)
        for name, average in self._targets.averages.items():
            given = state.get(f"aux:fc7_{name}") if self._cluster.is_first else None
            if given is None and self._cluster.is_first:
                raise CheckpointError(f"the state lacks aux:fc7_{name} of the margin loss; was it saved with another?")
            values = self._cluster.broadcast(np.zeros(1, np.float32) if given is None else given.asnumpy())
            average.copy_(torch.from_numpy(values))

    def _rows(self, positives: np.ndarray, update: int) -> tuple[torch.Tensor | None, np.ndarray]:
        """Return the rows that take part (None: all), and where among them those of the batch are."""
        if self._sampling.rate >= 1:
            return None, positives
        length = self._stop - self._start
        place = {"update": self._sampling.updates_before + update, "start": self._start}
        rows = sample_rows(length, self._sampling.rate, positives, seed=self._sampling.seed, **place)
        taken = to_device(torch.from_numpy(rows.astype(np.int64)), self._device)
        return taken, np.searchsorted(rows, positives)

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


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return rows * torch.rsqrt(rows.square().sum(1, keepdim=True) + _NORM_EPS)
