"""Plan a run before it starts: the memory it needs, whether that is there, and how many epochs it makes."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.devices import check_devices
from vargfacenet.errors import SettingError
from vargfacenet.operators import choose_backend, runnable
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.margins import MarginLoss
from vargfacenet.train import memory
from vargfacenet.train.config import Config
from vargfacenet.train.graph import LABEL, TEACHER, embedding_size_of, training_graph

_IMAGES = 16  # images for which graphs are bound; their memory is proportional to the batch
WORKSPACE = 48 << 20  # bytes of graphs, threads and workspaces of operators on a CPU, as measured
_BATCHES = 6  # batches of images in memory: decoded ahead, handed over, and in use


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
    """

    kind: str
    devices: int = 1
    machines: int = 1
    memory: int | None = None

    @property
    def shards(self) -> int:
        """Devices of all machines."""
        return self.devices * self.machines


def make_plan(config: Config, place: Place, *, identities: int, images: int, teacher: str | None = None) -> Plan:
    """Return what a run needs.

    MXNet's own memory planner gives the activations of the graph that trains; the rest is arithmetic
    (`vargfacenet.train.memory`). Not counted is what MXNet, its libraries and Python take by themselves: about 0.3 GiB on
    a CPU, and on a GPU the CUDA context and the workspaces of cuDNN.

    Parameters
    ----------
    config
        The settings.
    place
        Where it is to be trained.
    identities, images
        Size of the training set.
    teacher
        The teacher's network, where it embeds each batch; None where its embeddings are stored.

    Raises
    ------
    SettingError
        Where a batch does not divide among the devices, or an array is larger than MXNet
        allows.
    """
    check_devices(config.batch_size, [None] * place.shards)
    share = config.batch_size // place.shards
    embedding = config.build_symbol()
    size = embedding_size_of(embedding)
    backend = "basic" if place.kind == "gpu" else choose_backend()
    body = training_graph(embedding, dataclasses.replace(config, head="sharded"), 0, backend=backend)
    arguments = body.list_arguments()
    columns: dict[str, int | None] = {TEACHER: size, LABEL: None}
    inputs = {name: count for name, count in columns.items() if name in arguments}
    parameters, activations = graph_bytes(body, share, inputs)
    network = memory.network(parameters, activations, momentum=bool(config.momentum))
    device = {f"network: {name}": value for name, value in network._asdict().items()}
    # The store sums this much on each device, and the Module keeps as much on the host.
    stored = network.parameters
    sums = stored if place.devices > 1 else 0
    if config.loss != "none":
        classifier = _classifier(config, place, identities, size, share)
        device.update({f"classifier: {name}": value for name, value in classifier._asdict().items()})
        if config.head == "dense":
            stored += classifier.weights
            # The gradients of one parameter are copied from all devices to one of them.
            sums += classifier.weights * place.devices if place.devices > 1 else 0
    if teacher:
        device["teacher"] = sum(graph_bytes(runnable(get_symbol(teacher), backend=backend), share, for_training=False))
    device["sums over devices"] = sums
    device["input"] = memory.input_bytes(share, *IMAGE_SHAPE)
    host = {"network": stored, "input": _BATCHES * memory.input_bytes(share * place.devices, *IMAGE_SHAPE)}
    total = sum(device.values())
    if place.kind == "cpu":
        host["workspace"] = WORKSPACE
        # Sums are on one device only, except for the network's, which are spread.
        total = (total - sums) * place.devices + sum(host.values()) + sums + (place.devices - 1) * network.parameters
    per_epoch, epochs = memory.epochs(images, config.batch_size, config.max_updates * config.generations)
    return Plan(device, host, total, place.memory, per_epoch, epochs)


def memory_here(kind: str) -> int | None:
    """Return the bytes of this machine's memory, or of its first GPU; None where that is not known."""
    if kind == "cpu":
        return host_memory()
    return mx.context.gpu_memory_info(0)[1] if mx.context.num_gpus() else None


def host_memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def fits(plan: Plan) -> bool:
    """Return True where a plan is within its limit, or no limit is known."""
    return plan.limit is None or plan.total <= plan.limit


def remedies(config: Config, place: Place, **data: Any) -> list[tuple[str, Plan]]:
    """Return changes that make a plan fit, each alone where that suffices, in words, with the plan that results.

    Parameters are those of `make_plan`.
    """
    shardable = config.identity_loss is not None and config.identity_loss.sharded is not None
    changes: list[dict[str, Any]] = []
    if shardable and config.head == "dense":
        changes.append({"head": "sharded"})
    if shardable and config.sample_rate > 0.1:
        changes.append({"head": "sharded", "sample_rate": 0.1})
    sizes = [size for size in _halves(config.batch_size) if size % place.shards == 0]
    found: list[tuple[str, Plan]] = []
    for alone in changes:
        _keep(found, _words(alone), dataclasses.replace(config, **alone), place, data)
    for size in sizes:
        if _keep(found, f"batch_size={size}", dataclasses.replace(config, batch_size=size), place, data):
            break
    if not found and changes:
        for size in sizes:
            both = {**changes[-1], "batch_size": size}
            if _keep(found, _words(both), dataclasses.replace(config, **both), place, data):
                break
    for count in (2, 4, 8, 16):
        more = dataclasses.replace(place, devices=place.devices * count)
        if place.kind == "gpu" and config.batch_size % more.shards == 0:
            spread = dataclasses.replace(config, head="sharded") if shardable else config
            words = f"{more.devices} devices" + (" and head=sharded" if spread.head != config.head else "")
            if _keep(found, words, spread, more, data):
                break
    return found


def graph_bytes(
    symbol: mx.sym.Symbol, batch_size: int, inputs: Mapping[str, int | None] | None = None, *, for_training: bool = True
) -> tuple[int, int]:
    """Return how many numbers a graph's parameters have, and how many bytes the graph computes at a batch size.

    The graph is bound on the CPU for a few images, without being run. MXNet then reports the bytes, with memory shared
    among arrays that are not needed at the same time.

    Parameters
    ----------
    symbol
        A graph with the input ``data``.
    batch_size
        Images.
    inputs
        Columns of its other inputs; None for one that has a number for each sample.
    for_training
        Compute gradients too.
    """
    numbers, megabytes = _bound(symbol.tojson(), tuple((inputs or {}).items()), for_training)
    return numbers, megabytes * 2**20 * batch_size // _IMAGES


@functools.lru_cache(maxsize=16)
def _bound(graph: str, inputs: tuple[tuple[str, int | None], ...], for_training: bool) -> tuple[int, int]:
    """Return how many numbers a graph's parameters have, and how many megabytes it computes for `_IMAGES`."""
    symbol = mx.sym.load_json(graph)
    shapes: dict[str, tuple[int, ...]] = {"data": (_IMAGES, *IMAGE_SHAPE)}
    shapes.update({name: (_IMAGES,) if size is None else (_IMAGES, size) for name, size in inputs})
    names = symbol.list_arguments()
    wanted = {name: "write" if for_training and name not in shapes else "null" for name in names}
    executor = symbol.simple_bind(mx.cpu(), grad_req=wanted, **shapes)
    megabytes = int(re.findall(r"Total (\d+) MB allocated", executor.debug_str())[0])
    return sum(array.size for name, array in executor.arg_dict.items() if name not in shapes), megabytes


def _classifier(config: Config, place: Place, identities: int, size: int, share: int) -> memory.Classifier:
    options = {"bias": config.loss == "softmax", "momentum": bool(config.momentum)}
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


def _keep(found: list[tuple[str, Plan]], words: str, config: Config, place: Place, data: dict[str, Any]) -> bool:
    """Plan a change, and add it to those found where it fits; return whether it does."""
    try:
        plan = make_plan(config, place, **data)
    except SettingError:
        return False
    if fits(plan):
        found.append((words, plan))
    return fits(plan)


def _words(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _halves(number: int) -> Iterator[int]:
    while number > 1 and number % 2 == 0:
        number //= 2
        yield number
