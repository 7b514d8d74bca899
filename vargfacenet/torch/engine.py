"""The engine as the training of a run sees it: its trainer and its teacher, made from the settings."""

from __future__ import annotations

import dataclasses
from typing import Any

import mxnet as mx
import torch

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import SettingError
from vargfacenet.torch.precision import Compute
from vargfacenet.torch.trainer import TorchTrainer
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
    return TorchTrainer(
        # Plain operators: those that mend MXNet's own are of no use here.
        training_graph(embedding, dataclasses.replace(config, precision="float32"), num_identities, tier="stock"),
        data=data,
        labels={"softmax_label": (rows,)} if config.loss != "none" else {},
        compute=compute_of(config, devices[0]),
        slices=len(devices) * config.accumulate,
        schedule=learning_rate_schedule(
            lr=config.lr * (config.generation_lr if number > 1 else 1),
            max_updates=config.max_updates,
            schedule=config.schedule,
            warmup_updates=config.warmup_updates,
            lr_steps=config.lr_steps,
            lr_factor=config.lr_factor,
            lr_final=config.lr_final,
        ),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clip_gradient=config.clip_gradient,
        first_update=first_update,
        cluster=cluster,
        whole=not config.mix,
    )


def check_settings(config: Any, devices: list[torch.device], workers: int = 1) -> None:
    """Raise a SettingError for settings that this engine has not, or a batch that does not divide among the slices."""
    compute_of(config, devices[0])
    if config.head != "dense":
        raise SettingError(
            f"head={config.head}: engine=torch has the dense classifier only; give head=dense, or engine=mxnet"
        )
    count = len(devices) * config.accumulate * workers
    if config.batch_size % count:
        raise SettingError(
            f"batch_size={config.batch_size}: expected a multiple of devices x accumulate x workers ({count})"
        )
