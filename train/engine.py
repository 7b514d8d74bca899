"""The interface between a training run and the engine that computes its updates.

A run (`vargfacenet.train.run.Run`) owns settings, data, folder and callbacks. A trainer owns the parameters of a network
and everything else that an update changes. `TrainerProtocol` is all that a run asks of a trainer, so that whatever
implements it is saved, resumed, monitored, verified and stopped by the same code. MXNet's trainers
(`vargfacenet.train.trainer.Trainer`, and `vargfacenet.train.classifier.ShardedTrainer` around it) are one implementation.

What crosses the interface belongs to no engine, with one exception: losses, embeddings and labels of an update are NumPy
arrays; parameters and training states are ``mx.nd.NDArray`` on the CPU, as checkpoint files hold them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import mxnet as mx
import numpy as np

from vargfacenet.errors import TrainingError

Arrays = dict[str, mx.nd.NDArray]  # by name
Schedule = Callable[[int], float]  # learning rate of an update; 1 is the first


class StepResult(NamedTuple):
    """Results of one update of one worker, over this worker's N images.

    Attributes
    ----------
    outputs
        Losses and measures by name, each float32 (N,). The first is the loss that was minimised, and is called ``loss``.
    embedding
        The embeddings before the update, (N, embedding_size); None where the trainer's graph does not give them.
    labels
        The labels of the batch; the first are the identities, (N,). Empty for an iterator without labels.
    """

    outputs: dict[str, np.ndarray]
    embedding: np.ndarray | None
    labels: list[np.ndarray]


class NotFinite(TrainingError):
    """An update that was not made because its loss or a gradient is not finite.

    Attributes
    ----------
    loss
        The mean loss, where that is not finite, or else None.
    gradients
        Names of the parameters whose gradients are not finite, in the order of the graph.
    """

    def __init__(self, loss: float | None, gradients: list[str]) -> None:
        super().__init__(f"the loss is {loss}, gradients that are not finite: {', '.join(gradients) or 'none'}")
        self.loss, self.gradients = loss, gradients


class TrainerProtocol(Protocol):
    """Interface between a run and its trainer.

    With several workers, all of them call `step`, `state` after `synchronise`, `synchronise` and `broadcast_state` in the
    same order, as each waits for the others.

    Attributes
    ----------
    schedule
        Learning rate of an update of this schedule; 1 is the first.
    """

    schedule: Schedule

    def step(self, batch: Any) -> StepResult:
        """Make one update; `NotFinite` where loss or gradients are not finite, and then nothing has changed."""

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics as they are after the last update."""

    def averages(self) -> tuple[Arrays, Arrays]:
        """Return what `parameters` does, with the moving averages in their place where the trainer keeps them."""

    def set_parameters(self, args: Arrays, auxs: Arrays) -> None:
        """Replace all parameters and running statistics."""

    def state(self) -> Arrays:
        """Return everything that the next update depends on besides the data.

        Names begin with ``arg:`` (parameters), ``aux:`` (running statistics), ``ema:`` (averages of both), ``momentum:``,
        ``mean:`` or ``variance:`` (of optimizers), or with a kind of the engine's own. Classifier weights are ``arg:fc7_...``.
        """

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned; missing momenta become 0. CheckpointError where arrays do not fit the network."""

    def synchronise(self) -> None:
        """Average running statistics over all workers, and check that their parameters are identical.

        All workers call it before worker 0 reads `parameters` or `state`.
        """

    def broadcast_state(self) -> None:
        """Give every worker the state that worker 0 has loaded or drawn."""

    def trace_nan(self, batch: Any, fault: NotFinite) -> str:
        """Name what made the first number that is not finite in the update that `fault` ended."""


class Launched(Protocol):
    """An update that a device computes, or has computed."""

    def result(self) -> StepResult:
        """Wait for the update, and return its results; `NotFinite` where it was not made."""


@runtime_checkable
class LaunchingTrainer(TrainerProtocol, Protocol):
    """A trainer whose device computes while the next batch is prepared.

    After an update that is not finite the device makes no other, so that a run may learn of it later.
    """

    def launch(self, batch: Any) -> Launched:
        """Start an update, and return without waiting for it."""
