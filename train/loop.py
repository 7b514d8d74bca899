"""The updates of a generation, one after the other."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet.errors import TrainingError
from vargfacenet.train.callback import Callback, UpdateResult
from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.engine import Launched, LaunchingTrainer, NotFinite, StepResult, TrainerProtocol
from vargfacenet.train.stopping import NeverStopping


def fit(
    trainer: TrainerProtocol,
    next_batch: Callable[[], mx.io.DataBatch],
    updates: range,
    *,
    callbacks: Sequence[Callback] = (),
    reseed: Callable[[int], None],
    stopping: NeverStopping | None = None,
    cluster: Cluster = ALONE,
) -> int:
    """Make updates, and call each callback after each of them.

    Before a callback that needs the parameters, all workers synchronise. Callbacks of a `LaunchingTrainer` learn the results
    of an update when the next one has been started, except where one of them needs the parameters.

    Parameters
    ----------
    trainer
        What is trained.
    next_batch
        Returns the batch of the next update.
    updates
        Numbers of the updates, such as ``range(1, 11)`` for the first ten.
    callbacks
        What happens after each update.
    reseed
        Seeds random numbers for the time after an update, given its number.
    stopping
        When it has a signal, the update that is being made is the last, for all workers; of a `LaunchingTrainer`, the one
        that has been started.
    cluster
        The workers that train together.

    Returns
    -------
    int
        The last update that was made.

    Raises
    ------
    TrainingError
        Where a loss or a gradient is not finite, naming what made it; that update is then not made.
    """
    seconds, stopping = 0.0, stopping or NeverStopping()
    # The results of an update are read when the next one has been started, so that a GPU has always something to do.
    ahead = 1 if isinstance(trainer, LaunchingTrainer) else 0
    started: collections.deque[_Started] = collections.deque()
    cluster.report("the first update", waiting=True)
    with stopping:
        for update in updates:
            begin = time.perf_counter()
            reseed(update - 1)
            batch = next_batch()
            ends = update == updates[-1]
            synchronises = ends or any(callback.needs_parameters(update) for callback in callbacks)
            with _explaining(trainer, batch, update, reseed):
                launched = (
                    trainer.launch(batch) if isinstance(trainer, LaunchingTrainer) else _Made(trainer.step(batch))
                )
            started.append(_Started(update, batch, launched))
            while len(started) > (0 if synchronises or ends else ahead):
                one = started.popleft()
                with _explaining(trainer, one.batch, one.update, reseed):
                    step = one.launched.result()
                means, stops = over_all_workers(step, stopping, cluster)
                ends = ends or stops
                cluster.report(f"update {one.update}", waiting=True)
                saves = one.update == update and (synchronises or ends)
                if saves:
                    trainer.synchronise()
                    cluster.report(f"saving and verifying after update {update}")
                seconds += time.perf_counter() - begin
                for callback in callbacks:
                    callback.after_update(UpdateResult(one.update, means, seconds, step))
                begin = time.perf_counter()
                if saves:
                    cluster.report(f"update {update}", waiting=True)
            seconds += time.perf_counter() - begin
            if ends:
                return update
    return updates.stop - 1


class _Started(NamedTuple):
    """An update whose results have not been read."""

    update: int
    batch: mx.io.DataBatch
    launched: Launched


class _Made(NamedTuple):
    """An update of a trainer that waits for it."""

    step: StepResult

    def result(self) -> StepResult:
        return self.step


@contextlib.contextmanager
def _explaining(
    trainer: TrainerProtocol, batch: mx.io.DataBatch, update: int, reseed: Callable[[int], None]
) -> Iterator[None]:
    """Turn `NotFinite` of an update into the error that says where it came from."""
    try:
        yield
    except NotFinite as fault:
        reseed(update - 1)
        raise _explained(fault, trainer, batch, update) from None


def over_all_workers(step: StepResult, stopping: NeverStopping, cluster: Cluster) -> tuple[dict[str, float], bool]:
    """Return the means of a step's outputs over the images of all workers, and whether any worker has a signal.

    The signals travel in the sum that the means need anyway, so that all workers stop after the same update.
    """
    means = [float(values.mean(dtype=np.float64)) for values in step.outputs.values()]
    totals = cluster.all_reduce(np.array([*means, stopping.signal is not None], np.float64))
    *means, signals = (float(total) / cluster.world_size for total in totals)
    return dict(zip(step.outputs, means)), signals > 0


def _explained(fault: NotFinite, trainer: TrainerProtocol, batch: mx.io.DataBatch, update: int) -> TrainingError:
    """Return the error that says where a loss or gradient that is not finite came from, and what may help."""
    lr = trainer.schedule(update)
    what = f"the loss is {fault.loss}" if fault.loss is not None else "the loss is finite, its gradient is not,"
    return TrainingError(
        f"update {update}: {what} at learning rate {lr:g}; first not finite: {trainer.trace_nan(batch, fault)}. The "
        f"checkpoints are of earlier updates. Try a smaller lr (--set lr={lr / 10:g}), a longer warm-up (warmup_updates), "
        "or clip_gradient=1"
    )
