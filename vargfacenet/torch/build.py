"""Build the trainer and the teacher of a run in PyTorch from its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import mxnet as mx
import torch

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import SettingError
from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.form import refuse_dropout
from vargfacenet.torch.precision import Compute, without_tf32
from vargfacenet.torch.sharded import TorchShardedTrainer
from vargfacenet.torch.trainer import TorchTrainer
from vargfacenet.train.classifier import Sampling
from vargfacenet.train.config import Config
from vargfacenet.train.engine import LaunchingTrainer
from vargfacenet.train.graph import DRAW, LABEL, TEACHER, embedding_size_of, training_graph
from vargfacenet.train.optimizer import Optimizer
from vargfacenet.train.runtime import Runtime


def compute_of(config: Config, devices: Sequence[torch.device]) -> Compute:
    """Return how the settings ask devices to compute; SettingError for a precision that this engine lacks."""
    return Compute(
        devices[0],
        config.precision,
        config.channels_last,
        config.compile,
        captured=config.cuda_graphs,
        slices=len(devices) * config.accumulate,
        whole_images=not config.mix,
    )


def make_trainer(
    config: Config,
    embedding: mx.sym.Symbol,
    num_identities: int,
    *,
    sgd: Optimizer,
    generation: int,
    first_update: int,
    runtime: Runtime,
) -> LaunchingTrainer:
    """Return the trainer of a generation, with freshly drawn weights, as `vargfacenet.train.build.make_trainer` does.

    Raises
    ------
    SettingError
        For settings that this engine lacks, or a batch that does not divide.
    """
    cluster, devices = runtime.cluster, list(runtime.devices)
    check_settings(config, len(devices), cluster.world_size)
    without_tf32()
    rows = config.batch_size // cluster.world_size
    # Stock operators: those that replace MXNet's own are of no use here.
    in_float32 = dataclasses.replace(config, precision="float32")
    symbol = training_graph(embedding, in_float32, num_identities, backend="stock")
    names = symbol.list_arguments()
    shapes: dict[str, tuple[int, ...]] = {
        "data": (rows, *IMAGE_SHAPE),
        TEACHER: (rows, embedding_size_of(embedding)),
        DRAW: (rows,),
    }
    network = TorchTrainer(
        symbol,
        data={name: shape for name, shape in shapes.items() if name in names},
        labels={LABEL: (rows,)} if LABEL in names else {},
        sgd=sgd,
        compute=compute_of(config, devices),
        cluster=cluster,
        first_update=first_update,
    )
    if config.head == "dense":
        return network
    classifier = TorchClassifier(
        (num_identities, embedding_size_of(embedding)),
        device=devices[0],
        cluster=cluster,
        sgd=sgd,
        margin=config.sharded_margin(),
        sampling=Sampling(config.sample_rate, config.seed, (generation - 1) * config.max_updates),
        rescale=1 / config.batch_size,
    )
    classifier.initialise(config.seed, generation)
    return TorchShardedTrainer(network, classifier, cluster)


def check_settings(config: Config, devices: int, workers: int = 1) -> None:
    """Raise SettingError for settings that this engine lacks, or a batch that does not divide among the slices."""
    if config.head == "sharded" and devices * config.accumulate > 1:
        raise SettingError(
            f"head=sharded with {devices} device(s) and accumulate={config.accumulate}: a worker of engine=torch has one "
            "slice of the classifier and one of the batch; give one device, or start workers with torchrun"
        )
    if config.cuda_graphs and devices * config.accumulate * workers > 1:
        raise SettingError(
            f"cuda_graphs=true with {devices} device(s), {workers} worker(s) and accumulate={config.accumulate}: expected "
            "one of each"
        )
    if config.cuda_graphs and config.compile:
        raise SettingError("cuda_graphs=true with compile=true: choose one of them")
    if config.cuda_graphs:
        refuse_dropout(config.build_symbol().tojson())
    count = devices * config.accumulate * workers
    if config.batch_size % count:
        raise SettingError(
            f"batch_size={config.batch_size}: expected a multiple of devices x accumulate x workers ({count})"
        )
