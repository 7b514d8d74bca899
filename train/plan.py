"""Plan a run before it starts: the memory it needs, whether that is there, and how many epochs it makes."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.engines import torch_module
from vargfacenet.errors import SettingError
from vargfacenet.operators import choose_backend, runnable
from vargfacenet.symbols.margins import MarginLoss
from vargfacenet.train import memory
from vargfacenet.train.build import check_settings, make_optimizer
from vargfacenet.train.config import Config
from vargfacenet.train.graph import DRAW, LABEL, TEACHER, embedding_size_of, training_graph
from vargfacenet.train.graph_memory import graph_bytes, layout_bytes

WORKSPACE = 48 << 20  # bytes of graphs, threads and workspaces of operators on a CPU, as measured
# Arrays in oneDNN's layout for each image that a convolution reads or writes: with native neighbours, which have another
# layout, also those of its gradient. Fitted to measured runs of nine networks, docs/scaling.md.
_LAYOUTS = {"native": 2, "basic": 1}
_BATCHES = 6  # batches of images in memory: decoded ahead, handed over, and in use
_READER = 300 << 20  # bytes of a process that reads images, of its own, as measured
_GIB = 1 << 30


class Plan(NamedTuple):
    """Memory that one machine's part of a run needs.

    Attributes
    ----------
    device, host
        Bytes on the fullest device, and bytes on the host, by what they are for.
    total
        On CPUs all bytes; on GPUs those on the fullest device.
    limit
        Bytes that are there for `total`; None where that is not known.
    updates_per_epoch, epochs
        Updates in an epoch, and epochs of all generations together.
    """

    device: dict[str, int]
    host: dict[str, int]
    total: int
    limit: int | None
    updates_per_epoch: float
    epochs: float

    @property
    def fits(self) -> bool:
        """True where the plan is within its limit, or no limit is known."""
        return self.limit is None or self.total <= self.limit


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run is to be trained.

    Attributes
    ----------
    kind
        ``cpu`` or ``gpu``.
    devices
        Devices of each machine.
    machines
        Machines that train together.
    memory
        Bytes of a GPU, or of a machine whose CPUs train; None where that is not known.
    engine
        ``mxnet`` or ``torch``.
    """

    kind: str
    devices: int = 1
    machines: int = 1
    memory: int | None = None
    engine: str = "mxnet"

    @property
    def shards(self) -> int:
        """Devices of all machines."""
        return self.devices * self.machines

    @property
    def copies(self) -> int:
        """Devices of a machine that hold a network each: several CPUs of PyTorch are slices of one."""
        return 1 if (self.engine, self.kind) == ("torch", "cpu") else self.devices


@dataclasses.dataclass(frozen=True)
class Workload:
    """The size of a training set, and the network that embeds each batch for the student.

    Attributes
    ----------
    identities, images
        Size of the training set.
    teacher
        The teacher's graph, where it embeds each batch; None where its embeddings are stored.
    """

    identities: int
    images: int
    teacher: mx.sym.Symbol | None = None


def make_plan(config: Config, place: Place, work: Workload) -> Plan:
    """Return what a run needs.

    The engine's own account gives the activations of the graph that trains: on MXNet that of its memory planner, on PyTorch
    that of a rehearsal without numbers. The rest is arithmetic (`vargfacenet.train.memory`). Not counted is what the
    engine, its libraries and Python take by themselves: about 0.3 GiB on a CPU, and on a GPU the CUDA context and the
    workspaces of cuDNN.

    Raises
    ------
    SettingError
        Where a batch does not divide among the devices, the engine lacks a setting, or an array is larger than MXNet
        allows.
    """
    _check(config, place)
    share = config.batch_size // (place.shards * config.accumulate)
    embedding = config.build_symbol()
    device = (_torch_device if place.engine == "torch" else _mxnet_device)(config, place, work, embedding, share)
    stored = device["network: parameters"] + (device.get("classifier: weights", 0) if config.head == "dense" else 0)
    # The store sums this much on each device; a classifier's gradients are copied from all devices to one of them.
    many = place.engine == "mxnet" and place.devices > 1
    sums = stored + (place.devices - 1) * (stored - device["network: parameters"]) if many else 0
    device["sums over devices"] = sums
    if config.ema_decay:
        device["averaged weights"] = device["network: parameters"]
    if config.accumulate > 1 and place.engine == "mxnet":
        device["accumulated gradients"] = stored
    device["input"] = memory.input_bytes(config.batch_size // place.shards, *IMAGE_SHAPE)
    rows = config.batch_size // place.machines
    host = {"network": stored, "input": _BATCHES * memory.input_bytes(rows, *IMAGE_SHAPE)}
    if place.engine == "torch" and config.readers:
        host["reading processes"] = _READER * config.readers * (place.devices if place.kind == "gpu" else 1)
    total = sum(device.values())
    if place.kind == "cpu":
        host["workspace"] = WORKSPACE
        # Sums are on one device only, except for the network's, which are spread.
        spread = sums + (place.devices - 1) * device["network: parameters"] if many else 0
        total = (total - sums) * place.copies + sum(host.values()) + spread
    per_epoch, epochs = memory.epochs(work.images, config.batch_size, config.max_updates * config.generations)
    return Plan(device, host, total, place.memory, per_epoch, epochs)


def _slots(config: Config) -> int:
    """Return how many arrays the optimizer keeps for each parameter."""
    return len(make_optimizer(config).kept)


def gib(count: int | None) -> str:
    """Return bytes as GiB with two decimals; ``?`` where they are not known."""
    return "?" if count is None else f"{count / _GIB:.2f}"


def _check(config: Config, place: Place) -> None:
    """Raise SettingError where a batch does not divide, or the engine lacks a setting."""
    by_process = (place.engine, place.kind) == ("torch", "gpu")  # where each device has a worker
    devices, workers = (1, place.shards) if by_process else (place.devices, place.machines)
    check_settings(config, place.engine, devices, workers)
    if config.cuda_graphs and place.kind == "cpu":
        raise SettingError("cuda_graphs=true on a CPU: only a GPU has them; leave it out")


def _mxnet_device(config: Config, place: Place, work: Workload, embedding: mx.sym.Symbol, share: int) -> dict[str, int]:
    """Return the bytes on a device of MXNet by what they are for, without sums and input."""
    size = embedding_size_of(embedding)
    backend = "basic" if place.kind == "gpu" else choose_backend()
    body = training_graph(embedding, dataclasses.replace(config, head="sharded"), 0, backend=backend)
    parameters, activations = graph_bytes(body, share, _inputs(body, size))
    network = memory.network(parameters, activations, slots=_slots(config))
    device = {f"network: {name}": value for name, value in network._asdict().items()}
    if place.kind == "cpu" and backend in _LAYOUTS:
        images, weights = layout_bytes(body, share, _inputs(body, size))
        device["layouts of convolutions"] = _LAYOUTS[backend] * images + weights
    if config.loss != "none":
        classifier = _classifier(config, place, work.identities, size, share)
        device.update({f"classifier: {name}": value for name, value in classifier._asdict().items()})
    if work.teacher is not None:
        graph, rows = runnable(work.teacher, backend=backend), config.batch_size // place.shards
        numbers, bytes_ = graph_bytes(graph, rows, for_training=False)
        device["teacher"] = memory.FLOAT * numbers + bytes_
    return device


def _torch_device(config: Config, place: Place, work: Workload, embedding: mx.sym.Symbol, share: int) -> dict[str, int]:
    """Return the bytes on a device of PyTorch by what they are for, without input."""
    engine, size = torch_module("graph_memory"), embedding_size_of(embedding)
    in_float32 = dataclasses.replace(config, precision="float32")
    graph = training_graph(embedding, in_float32, work.identities, backend="stock")
    numbers, activations = engine.graph_bytes(graph, share, _inputs(graph, size), precision=config.precision)
    dense = config.head == "dense" and config.loss != "none"
    centres = config.cosine_head.centres if config.cosine_head is not None else 1
    kept = work.identities * (centres * size + (config.loss == "softmax")) if dense else 0
    network = memory.network(numbers - kept, activations, slots=_slots(config))
    device = {f"network: {name}": value for name, value in network._asdict().items()}
    if dense:
        classifier = memory.network(kept, 0, slots=_slots(config))
        device.update(
            {
                "classifier: weights": classifier.parameters,
                "classifier: gradient": classifier.gradients,
                "classifier: optimizer": classifier.optimizer,
            }
        )
    elif config.loss != "none":
        rows = -(-work.identities // place.shards)
        margin, sgd = config.sharded_margin(), make_optimizer(config)
        options = {"margin": margin, "sgd": sgd, "sample_rate": config.sample_rate}
        weights = memory.FLOAT * rows * (centres * size + (margin is None))
        device["classifier: weights"] = weights
        device["classifier: work"] = engine.classifier_bytes((rows, size), config.batch_size, **options) - weights
    if work.teacher is not None:
        rows = config.batch_size // place.shards * (place.devices // place.copies)
        numbers, bytes_ = engine.graph_bytes(work.teacher, rows, for_training=False, precision=config.precision)
        device["teacher"] = memory.FLOAT * numbers + bytes_
    return device


def _inputs(graph: mx.sym.Symbol, embedding_size: int) -> dict[str, int | None]:
    columns: dict[str, int | None] = {TEACHER: embedding_size, LABEL: None, DRAW: None}
    return {name: count for name, count in columns.items() if name in graph.list_arguments()}


def _classifier(config: Config, place: Place, identities: int, size: int, share: int) -> memory.Classifier:
    options: dict[str, Any] = {"bias": config.loss == "softmax", "slots": _slots(config)}
    head = config.cosine_head
    identities *= head.centres if head is not None else 1
    if config.head == "dense":
        largest = memory.largest_dense_array(identities, size, share)
        classifier = memory.dense_classifier(identities, size, share, **options)
    else:
        largest = memory.largest_sharded_array(identities, size, shards=place.shards)
        classifier = memory.sharded_classifier(
            identities, size, config.batch_size, shards=place.shards, sample_rate=config.sample_rate, **options
        )
    if head is not None and type(head.margin).others is not MarginLoss.others:
        # A loss that weighs other identities needs three arrays more in the graph, and in shards one for their slope.
        more = 3 / 2 if config.head == "dense" else 1
        classifier = classifier._replace(logits=classifier.logits + int(more * classifier.logits))
    if largest > memory.MOST_NUMBERS:
        raise SettingError(
            f"a classifier of {identities} identities with head={config.head} on {place.shards} device(s) has an array of "
            f"{largest} numbers, and MXNet's arrays hold at most {memory.MOST_NUMBERS}: give head=sharded, and more devices"
        )
    return classifier
