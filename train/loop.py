"""The updates of a generation, one after the other."""

import collections
import time

from vargfacenet.errors import TrainingError
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.origin import NotFinite, find_origin
from vargfacenet.train.stopping import NeverStopping

_Unread = collections.namedtuple("_Unread", "update outputs embedding labels")


def fit(trainer, feed, first_update, last_update, *, callbacks, reseed, stopping=None, cluster=ALONE):
    """Runs updates ``first_update + 1 .. last_update`` and calls each callback's ``after_update`` after each.

    A callback is given the update, the means of the trainer's outputs over the batch (dict of name to float), and the
    seconds spent training so far, callbacks left out. Before a callback that needs the parameters, all workers' running
    statistics are brought together.

    Parameters
    ----------
    trainer : Trainer
        What is trained.
    feed : callable
        Gives the next batch.
    first_update, last_update : int
        Updates behind at the start and at the end.
    callbacks : sequence
        What happens beside.
    reseed : callable
        Puts random numbers where they are after an update.
    stopping : Stopping, optional
        When it has a signal, the update that is running is the last; where there are several workers, for all.
    cluster : Cluster
        The workers that train together.

    Returns
    -------
    int
        The last update made.

    Raises
    ------
    TrainingError
        Where a loss or a gradient is not finite, naming what made it; that update is then not made.
    """
    seconds, stopping, unread = 0.0, stopping or NeverStopping(), collections.deque()
    cluster.report("the first update", waiting=True)
    with stopping:
        for update in range(first_update + 1, last_update + 1):
            begin = time.perf_counter()
            reseed(update - 1)
            batch = feed()
            cluster.wish = stopping.signal or 0
            try:
                outputs = trainer.step(batch)
            except NotFinite as fault:
                reseed(update - 1)
                raise _explained(fault, trainer, batch, update) from None
            unread.append(_Unread(update, outputs, trainer.embedding, trainer.labels))
            # Several workers stop where all know that one wishes it, which is told with the means; one alone looks once more.
            ends = update == last_update or (cluster.size == 1 and bool(stopping.signal))
            waits = ends or any(callback.needs_parameters(update) for callback in callbacks)
            # A device that computes ahead is not waited for: what it did is read some updates later.
            while len(unread) > (0 if waits else trainer.lag):
                one = unread.popleft()
                means = {name: float(values.asnumpy().mean()) for name, values in one.outputs.items()}
                ends = means.pop("wish", 0) > 0 or ends
                waits = waits or ends
                cluster.report(f"update {update}", waiting=True)
                own = one.update == update
                if waits and own:
                    trainer.synchronise()
                    cluster.report(f"saving and verifying after update {update}")
                seconds, begin = seconds + time.perf_counter() - begin, time.perf_counter()
                trainer.embedding, trainer.labels = one.embedding, one.labels
                for callback in callbacks:
                    callback.after_update(one.update, means, seconds)
                begin = time.perf_counter()
                if waits and own:
                    cluster.report(f"update {update}", waiting=True)
            seconds += time.perf_counter() - begin
            if ends:
                return update
    return last_update


def _explained(fault, trainer, batch, update):
    """The error that says what a loss or gradient that is not finite came from, and what may help."""
    lr = trainer.schedule(update)
    what = f"the loss is {fault.loss}" if fault.loss is not None else "the loss is finite, its gradient is not,"
    return TrainingError(
        f"update {update}: {what} at learning rate {lr:g}; first not finite: {find_origin(trainer, batch, fault)}. The "
        f"checkpoints are of earlier updates. Try a smaller lr (--set lr={lr / 10:g}), a longer warm-up (warmup_updates), "
        "or clip_gradient=1"
    )
