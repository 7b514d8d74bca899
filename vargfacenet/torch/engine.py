"""The engine as the training of a run sees it: its trainer and its teacher, made from the settings."""

from __future__ import annotations

import dataclasses
from typing import Any

import mxnet as mx
import torch

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import SettingError
from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.precision import Compute
from vargfacenet.torch.sharded import TorchShardedTrainer
from vargfacenet.torch.trainer import TorchTrainer
from vargfacenet.train.classifier import Margin
from vargfacenet.train.graph import embedding_size_of, training_graph
from vargfacenet.train.schedule import learning_rate_schedule


def compute_of(config: Any, device: torch.device) -> Compute:
    """Return how the settings ask a device to compute. SettingError for a precision that this engine has not."""
    return Compute(device, config.precision, config.channels_last, config.compile)


def make_trainer(
    config: Any,
    embedding: mx.sym.Symbol,
    num_identities: int,
    number: int,
    devices: list[torch.device],
    first_update: int,
    cluster: Any,
) -> TorchTrainer:
    """Return the trainer of a generation, with freshly drawn weights; the arguments of `vargfacenet.train.generation`'s.

    Raises
    ------
    SettingError
        For settings that this engine has not, or a batch that does not divide.
    """
    check_settings(config, devices, cluster.size)
    rows = config.batch_size // cluster.size
    data = {"data": (rows, *IMAGE_SHAPE)}
    if config.distils:
        data["teacher"] = (rows, embedding_size_of(embedding))
    # Plain operators: those that mend MXNet's own are of no use here.
    symbol = training_graph(embedding, dataclasses.replace(config, precision="float32"), num_identities, tier="stock")
    options: dict[str, Any] = {
        "data": data,
        "compute": compute_of(config, devices[0]),
        "slices": len(devices) * config.accumulate,
        "schedule": learning_rate_schedule(
            lr=config.lr * (config.generation_lr if number > 1 else 1),
            max_updates=config.max_updates,
            schedule=config.schedule,
            warmup_updates=config.warmup_updates,
            lr_steps=config.lr_steps,
            lr_factor=config.lr_factor,
            lr_final=config.lr_final,
        ),
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "clip_gradient": config.clip_gradient,
        "first_update": first_update,
        "cluster": cluster,
        "whole": not config.mix,
    }
    if config.head == "dense":
        return TorchTrainer(symbol, labels={"softmax_label": (rows,)} if config.loss != "none" else {}, **options)
    classifier = TorchClassifier(
        num_identities,
        embedding_size_of(embedding),
        device=devices[0],
        cluster=cluster,
        margin=Margin(config.m1, config.m2, config.m3, config.scale) if config.loss == "margin" else None,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        rescale=1 / config.batch_size,
        clip_gradient=config.clip_gradient,
        sample_rate=config.sample_rate,
        seed=config.seed,
    )
    classifier.initialise(config.seed, number)
    before = (number - 1) * config.max_updates
    return TorchShardedTrainer(symbol, classifier=classifier, updates_before=before, labels={}, **options)


def check_settings(config: Any, devices: list[torch.device], workers: int = 1) -> None:
    """Raise a SettingError for settings that this engine has not, or a batch that does not divide among the slices."""
    compute_of(config, devices[0])
    if config.head == "sharded" and len(devices) * config.accumulate > 1:
        raise SettingError(
            f"head=sharded with {len(devices)} device(s) and accumulate={config.accumulate}: a worker of engine=torch has one "
            "slice of the classifier and one of the batch; give one device, or start workers with torchrun"
        )
    count = len(devices) * config.accumulate * workers
    if config.batch_size % count:
        raise SettingError(
            f"batch_size={config.batch_size}: expected a multiple of devices x accumulate x workers ({count})"
        )
