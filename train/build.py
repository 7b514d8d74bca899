"""Build the trainer that the settings of a run describe."""

from __future__ import annotations

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.devices import check_devices
from vargfacenet.engines import devices_for, torch_module, uses_torch
from vargfacenet.errors import SettingError
from vargfacenet.train.classifier import Sampling, ShardedClassifier, ShardedTrainer
from vargfacenet.train.config import Config
from vargfacenet.train.embedder_teacher import EmbedderTeacher, OnlineEmbedder
from vargfacenet.train.engine import TrainerProtocol
from vargfacenet.train.graph import DRAW, LABEL, TEACHER, embedding_size_of, training_graph
from vargfacenet.train.optimizer import SGD, AdamW, Averaging, Optimizer
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.schedule import learning_rate_schedule
from vargfacenet.train.settings import SETTINGS
from vargfacenet.train.teacher import OnlineTeacher, Teacher, TeacherEmbeddings
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
    runtime = runtime._replace(devices=devices_for(config.engine, runtime.devices))
    check_engine(config, runtime)
    sgd = make_optimizer(config, generation, names=_names_of(embedding))
    if uses_torch(runtime.devices):
        numbers = {"generation": generation, "first_update": first_update}
        return torch_module("build").make_trainer(
            config, embedding, num_identities, sgd=sgd, runtime=runtime, **numbers
        )
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
        parts=config.accumulate,
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


def check_engine(config: Config, runtime: Runtime) -> None:
    """Raise SettingError where the engine of the devices lacks what the settings ask for, or a batch does not divide."""
    engine = "torch" if uses_torch(runtime.devices) else "mxnet"
    check_settings(config, engine, len(runtime.devices), runtime.cluster.world_size)
    if engine == "torch":
        torch_module("build").compute_of(config, runtime.devices)


def check_settings(config: Config, engine: str, devices: int, workers: int = 1) -> None:
    """Raise SettingError where an engine lacks what the settings ask for, or a batch does not divide among its devices.

    Parameters
    ----------
    config
        The settings.
    engine
        ``mxnet`` or ``torch``.
    devices, workers
        Devices of each worker, and workers.
    """
    _check_centres(config, devices * workers)
    if engine == "torch":
        torch_module("build").check_settings(config, devices, workers)
        return
    for name in ("channels_last", "compile", "cuda_graphs", "readers"):
        if getattr(config, name) != SETTINGS[name].default:
            raise SettingError(
                f"{name}={getattr(config, name)} is of engine=torch: give --engine torch, or leave it out"
            )
    if config.precision == "bfloat16":
        raise SettingError("precision=bfloat16 is of engine=torch: give --engine torch, or precision=float32")
    if config.head == "sharded" and config.accumulate > 1:
        raise SettingError(
            f"accumulate={config.accumulate} with head=sharded: the rows of such a classifier are updated with each part; give "
            "--set head=dense, or accumulate=1"
        )
    check_devices(config.batch_size, devices, workers)
    count = devices * config.accumulate * workers
    if config.batch_size % count:
        raise SettingError(
            f"batch_size={config.batch_size}: expected a multiple of devices x accumulate x workers ({count})"
        )


def _check_centres(config: Config, devices: int) -> None:
    """Raise SettingError where devices or parts of a batch would each move centres of their own."""
    head = config.cosine_head
    if head is None or not head.follows or config.head != "dense" or devices * config.accumulate == 1:
        return
    where = f"on {devices} devices" if devices > 1 else f"with accumulate={config.accumulate}"
    one = "device" if devices > 1 else "part"
    remedy = "accumulate=1" if devices == 1 else "head=sharded, or one device"
    raise SettingError(
        f"loss={config.loss} {where}: with head=dense each {one} would move centres of its own; give --set {remedy}"
    )


def make_online_teacher(teacher: Teacher, config: Config, runtime: Runtime) -> TeacherEmbeddings:
    """Return what embeds each batch by the teacher's network, on the engine of the devices or where that runs."""
    if isinstance(teacher, EmbedderTeacher):
        return OnlineEmbedder(teacher, mirror=config.teacher_mirror)
    if uses_torch(runtime.devices):
        compute = torch_module("build").compute_of(config, runtime.devices)
        return torch_module("embed").TorchTeacher(teacher, compute, mirror=config.teacher_mirror)
    rows = config.batch_size // runtime.cluster.world_size
    return OnlineTeacher(teacher, batch_size=rows, devices=runtime.devices, mirror=config.teacher_mirror)


def make_optimizer(config: Config, generation: int = 1, *, names: frozenset[str] = frozenset()) -> Optimizer:
    """Return the optimizer of a generation: its schedule begins again in each, with another learning rate after the first.

    `names` are the arrays of the network of which ``ema_decay`` keeps an average.
    """
    schedule = learning_rate_schedule(
        lr=config.lr * (config.generation_lr_factor if generation > 1 else 1),
        max_updates=config.max_updates,
        schedule=config.schedule,
        warmup_updates=config.warmup_updates,
        lr_milestones=config.lr_milestones,
        lr_factor=config.lr_factor,
        lr_final=config.lr_final,
        lr_power=config.lr_power,
    )
    averaging = Averaging(config.ema_decay, names) if config.ema_decay else None
    common = {"weight_decay": config.weight_decay, "clip_gradient": config.clip_gradient}
    if config.optimizer == "adamw":
        return AdamW(schedule, config.beta1, config.beta2, config.epsilon, averaging=averaging, **common)
    return SGD(schedule, config.momentum, averaging=averaging, **common)


def _names_of(embedding: mx.sym.Symbol) -> frozenset[str]:
    return frozenset({*embedding.list_arguments(), *embedding.list_auxiliary_states()} - {"data"})
