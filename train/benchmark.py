"""How fast a network trains on each tier of operators: whole updates, data left out."""

import collections
import statistics
import time

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import runnable
from vargfacenet.symbols.heads import margin_softmax
from vargfacenet.symbols.objective import objective
from vargfacenet.train.trainer import Trainer

Speed = collections.namedtuple("Speed", "tier images_per_second rounds")
Speed.__doc__ = "A tier's median of images a second, and the figure of each round."

NUM_IDENTITIES = 1000


def training_speeds(symbol, *, tiers, batch_size, rounds, updates):
    """Images a second of training on the CPU, tier by tier in turn, round after round.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        A published embedding graph; it is trained with a margin softmax over 1,000 identities on random numbers.
    tiers : sequence of str
        Of `vargfacenet.operators.TIERS`.
    batch_size, rounds, updates : int
        Pictures in a batch; rounds in which each tier has its turn; updates of a turn.

    Returns
    -------
    list of Speed
        In the order of `tiers`.
    """
    random = np.random.RandomState(0)
    batch = mx.io.DataBatch(
        [mx.nd.array(random.uniform(0, 255, (batch_size, *IMAGE_SHAPE)))],
        [mx.nd.array(random.randint(0, NUM_IDENTITIES, batch_size))],
    )
    trainers = [_trainer(symbol, tier, batch_size) for tier in tiers]
    for trainer in trainers:
        _seconds(trainer, batch, 2)  # memory is taken and layouts are chosen in the first
    found = [[] for _ in tiers]
    for _ in range(rounds):
        for figures, trainer in zip(found, trainers):
            figures.append(updates * batch_size / _seconds(trainer, batch, updates))
    return [Speed(tier, statistics.median(figures), figures) for tier, figures in zip(tiers, found)]


def _trainer(symbol, tier, batch_size):
    _, [(_, size)], _ = symbol.infer_shape(data=(1, *IMAGE_SHAPE))
    identity = margin_softmax(
        runnable(symbol, for_training=True, tier=tier),
        mx.sym.var("softmax_label"),
        num_identities=NUM_IDENTITIES,
        embedding_size=size,
    )
    inputs, labels = {"data": (batch_size, *IMAGE_SHAPE)}, {"softmax_label": (batch_size,)}
    graph = objective(identity=identity)
    return Trainer(graph, data=inputs, labels=labels, devices=[mx.cpu()], schedule=lambda update: 1e-3)


def _seconds(trainer, batch, updates):
    mx.nd.waitall()
    begin = time.perf_counter()
    for _ in range(updates):
        trainer.step(batch)
    mx.nd.waitall()
    return time.perf_counter() - begin
