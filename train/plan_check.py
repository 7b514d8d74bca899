"""The plan of a run against the machine it is to run on, before data is read or anything is written."""

from __future__ import annotations

import hashlib
import logging
import platform
from typing import TYPE_CHECKING

import mxnet as mx
import numpy as np

from vargfacenet.engines import torch_module, uses_torch
from vargfacenet.errors import SettingError
from vargfacenet.free_memory import free_memory, host_memory
from vargfacenet.train.cluster import Cluster
from vargfacenet.train.config import Config
from vargfacenet.train.embedder_teacher import EmbedderTeacher
from vargfacenet.train.plan import Place, Plan, Workload, gib, make_plan
from vargfacenet.train.remedies import refusal
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.teacher import Teacher
from vargfacenet.train.training_data import TrainingData

if TYPE_CHECKING:
    from vargfacenet.engines import Device

MANY_EPOCHS = 500  # more than any published recipe makes

log = logging.getLogger(__name__)


def workload(config: Config, data: TrainingData, teacher: Teacher | None) -> Workload:
    """Return what a run is to learn from; a teacher in onnxruntime is not counted."""
    embeds = teacher is not None and config.reads_teacher and teacher.stored is None
    symbol = teacher.checkpoint.symbol if teacher and embeds and not isinstance(teacher, EmbedderTeacher) else None
    return Workload(data.records.num_identities, len(data.records), symbol)


def check_run(config: Config, work: Workload, runtime: Runtime) -> Plan | None:
    """Check that a run fits into what is free, and a batch into the training set; the workers call it together.

    Returns
    -------
    Plan
        What was planned; None with ``check_memory=false``.

    Raises
    ------
    SettingError
        Where a batch is larger than the training set, or the memory does not suffice; the error says what would fit.
    """
    parts = len(runtime.devices) * runtime.cluster.world_size * config.accumulate
    if config.batch_size > work.images:
        most = work.images // parts * parts
        remedy = f"give --set batch_size={most} or less" if most else f"{parts} devices or parts need more images"
        raise SettingError(
            f"batch_size={config.batch_size} is more than the {work.images} images of the training set: {remedy}"
        )
    if not config.check_memory:
        return None
    place = _place(runtime)
    plan = make_plan(config, place, work)
    if not plan.fits:
        raise SettingError(
            f"{refusal(config, place, work, plan)}; where this estimate is wrong, --set check_memory=false starts all the same"
        )
    return plan


def warn_of_epochs(config: Config, images: int) -> None:
    """Warn of a run that makes many more epochs of a training set than any published recipe."""
    updates = config.max_updates * config.generations
    epochs = updates * config.batch_size / images
    if epochs > MANY_EPOCHS:
        log.warning(
            "%d updates of %d images are %d epochs of these %d images, more than any published recipe: for 25 epochs give "
            "--set max_updates=%d",
            updates,
            config.batch_size,
            epochs,
            images,
            max(1, round(25 * images / config.batch_size / config.generations)),
        )


def described(plan: Plan | None) -> str:
    """Return the memory of a plan in words, for the log."""
    return "memory not checked" if plan is None else f"{gib(plan.total)} GiB planned of {gib(plan.limit)} free"


def memory_here(kind: str, engine: str = "mxnet") -> int | None:
    """Return the bytes of this machine's memory, or of its first GPU, as an engine sees it; None where that is not known."""
    if kind == "cpu":
        return host_memory()
    if engine == "torch":
        return torch_module("devices").whole_memory()
    return mx.context.gpu_memory_info(0)[1] if mx.context.num_gpus() else None


def _place(runtime: Runtime) -> Place:
    """Return where a run is: each worker counts as a machine, with its part of what the machine has free."""
    devices, cluster = runtime.devices, runtime.cluster
    engine = "torch" if uses_torch(devices) else "mxnet"
    on_cpu = str(devices[0]).startswith("cpu")
    memory = free_memory() // _workers_here(cluster) if on_cpu else min(map(_free_on_gpu, devices))
    # A worker of PyTorch has one GPU.
    return Place("cpu" if on_cpu else "gpu", len(devices), cluster.world_size, memory, engine)


def _workers_here(cluster: Cluster) -> int:
    """Return how many workers this machine has, this one included."""
    name = hashlib.blake2b(platform.node().encode(), digest_size=16).digest()
    names = cluster.all_gather(np.frombuffer(name, np.uint8).astype(np.float32))
    return int((names == names[cluster.rank]).all(axis=1).sum())


def _free_on_gpu(device: Device) -> int:
    if isinstance(device, mx.Context):
        return mx.context.gpu_memory_info(device.device_id)[0]
    return torch_module("devices").free_memory(device)
