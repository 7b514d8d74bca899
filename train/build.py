"""Build the trainer that the settings of a run describe."""

from __future__ import annotations

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.train.classifier import Sampling, ShardedClassifier, ShardedTrainer
from vargfacenet.train.config import Config
from vargfacenet.train.engine import TrainerProtocol
from vargfacenet.train.graph import DRAW, LABEL, TEACHER, embedding_size_of, training_graph
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.precision import LossScale, check_precision
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.schedule import learning_rate_schedule
from vargfacenet.train.trainer import Trainer


def make_trainer(
    config: Config,
    embedding: mx.sym.Symbol,
    num_identities: int,
    *,
    generation: int = 1,
    first_update: int = 0,
    runtime: Runtime | None = None,
) -> TrainerProtocol:
    """Return the trainer of a generation, with freshly drawn weights.

    Parameters
    ----------
    config
        The settings.
    embedding
        The plain graph that they describe.
    num_identities
        Identities of the training set.
    generation
        Number of the generation, 1 the first.
    first_update
        Updates of the generation that were made before.
    runtime
        What it is computed on.
    """
    runtime = runtime or Runtime()
    check_precision(config.precision, runtime.devices)
    sgd = make_optimizer(config, generation)
    rows = config.batch_size // runtime.cluster.world_size
    graph = training_graph(embedding, config, num_identities, runtime.devices[0])
    names = graph.list_arguments()
    shapes: dict[str, tuple[int, ...]] = {
        "data": (rows, *IMAGE_SHAPE),
        TEACHER: (rows, embedding_size_of(embedding)),
        DRAW: (rows,),
    }
    network = Trainer(
        graph,
        data={name: shape for name, shape in shapes.items() if name in names},
        labels={LABEL: (rows,)} if LABEL in names else {},
        sgd=sgd,
        runtime=runtime,
        first_update=first_update,
        loss_scale=LossScale(config.loss_scale) if config.precision == "float16" else None,
    )
    if config.head == "dense":
        return network
    classifier = ShardedClassifier(
        num_identities=num_identities,
        embedding_size=embedding_size_of(embedding),
        sgd=sgd,
        margin=config.sharded_margin(),
        sampling=Sampling(config.sample_rate, config.seed, (generation - 1) * config.max_updates),
        rescale=1 / config.batch_size,
        runtime=runtime,
    )
    classifier.initialise(config.seed, generation)
    return ShardedTrainer(network, classifier, runtime.cluster)


def make_optimizer(config: Config, generation: int = 1) -> SGD:
    """Return the optimizer of a generation: its schedule begins again in each, with another learning rate after the first."""
    schedule = learning_rate_schedule(
        lr=config.lr * (config.generation_lr_factor if generation > 1 else 1),
        max_updates=config.max_updates,
        schedule=config.schedule,
        warmup_updates=config.warmup_updates,
        lr_milestones=config.lr_milestones,
        lr_factor=config.lr_factor,
        lr_final=config.lr_final,
    )
    return SGD(schedule, config.momentum, config.weight_decay, config.clip_gradient)
