"""What a run will take, and whether it fits, before it is begun."""

import collections
import dataclasses
import functools
import os
import re

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import SettingError
from vargfacenet.operators import choose_tier, runnable
from vargfacenet.symbols import get_symbol
from vargfacenet.train import memory
from vargfacenet.train.graph import embedding_size_of, training_graph
from vargfacenet.train.precision import check_precision
from vargfacenet.train.trainer import check_devices

_PICTURES = 16  # for which graphs are bound; their memory is proportional to the batch
WORKSPACE = 48 << 20  # bytes of graphs, threads and workspaces of operators on a CPU, as measured
_BATCHES = 6  # of pictures on their way: decoded ahead, handed over, and in use

Plan = collections.namedtuple("Plan", "device host total limit updates_per_epoch epochs")
Plan.__doc__ = """What one machine's part of a run takes: the bytes on the fullest device and those on the host, by what they
are for (dict of str to int); on CPUs `total` is all of it, on GPUs that of the fullest device, to be held against `limit`
(None where it is not known); updates in a pass over the images, and passes that all generations make."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run is to be trained.

    Attributes
    ----------
    kind : str
        ``cpu`` or ``gpu``.
    devices : int
        On each machine.
    machines : int
        That train together.
    memory : int, optional
        Bytes of a GPU, or of a machine whose CPUs train.
    """

    kind: str
    devices: int = 1
    machines: int = 1
    memory: int = None

    @property
    def shards(self):
        return self.devices * self.machines


def make_plan(config, place, *, identities, images, teacher=None):
    """What a run takes.

    Activations are what MXNet's own planner of memory says of the graph that trains; the rest is arithmetic
    (`vargfacenet.train.memory`). Left out is what MXNet, its libraries and Python take by themselves: some 0.3 GiB on a
    CPU, and on a GPU the CUDA context and the workspaces of cuDNN.

    Parameters
    ----------
    config : Config
        The settings.
    place : Place
        Where.
    identities, images : int
        Of the training set.
    teacher : str, optional
        The network that teaches, where it embeds each batch; without it, its embeddings are stored.

    Returns
    -------
    Plan

    Raises
    ------
    SettingError
        Where a batch does not divide, CPUs are to compute in float16, or an array is larger than MXNet allows.
    """
    check_devices(config.batch_size, [None] * place.shards)
    check_precision(config.precision, [mx.Context(place.kind)])
    share = config.batch_size // place.shards
    embedding = config.build_symbol()
    size = embedding_size_of(embedding)
    tier = "basic" if place.kind == "gpu" else choose_tier()
    body = training_graph(embedding, dataclasses.replace(config, head="sharded"), 0, tier=tier)
    arguments = body.list_arguments()
    inputs = {name: columns for name, columns in (("teacher", size), ("softmax_label", None)) if name in arguments}
    parameters, activations = graph_bytes(body, share, inputs)
    if config.precision == "float16":
        activations //= 2  # MXNet's account takes every number for one of four bytes
    network = memory.network(parameters, activations, momentum=bool(config.momentum))
    device = {f"network: {name}": value for name, value in network._asdict().items()}
    stored = (
        network.parameters
    )  # what the store sums on each device, and the Module keeps of the parameters on the host
    sums = stored if place.devices > 1 else 0
    if config.has_classifier:
        classifier = _classifier(config, place, identities, size, share)
        device.update({f"classifier: {name}": value for name, value in classifier._asdict().items()})
        if config.head == "dense":
            stored += classifier.weights
            # All devices' gradients of one parameter are brought to one of them.
            sums += classifier.weights * place.devices if place.devices > 1 else 0
    if teacher:
        device["teacher"] = sum(graph_bytes(runnable(get_symbol(teacher), tier=tier), share, for_training=False))
    device["sums over devices"] = sums
    device["input"] = memory.input_bytes(share, *IMAGE_SHAPE)
    host = {"network": stored, "input": _BATCHES * memory.input_bytes(share * place.devices, *IMAGE_SHAPE)}
    total = sum(device.values())
    if place.kind == "cpu":
        host["workspace"] = WORKSPACE
        # Sums are on one device only, but for the network's, which are spread.
        total = (total - sums) * place.devices + sum(host.values()) + sums + (place.devices - 1) * network.parameters
    per_epoch, epochs = memory.epochs(images, config.batch_size, config.max_updates * config.generations)
    return Plan(device, host, total, place.memory, per_epoch, epochs)


def memory_here(kind):
    """Bytes of this machine's memory, or of its first GPU; None where that is not known."""
    if kind == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return mx.context.gpu_memory_info(0)[1] if mx.context.num_gpus() else None


def fits(plan):
    """Whether a plan is within its limit (bool); where none is known, it is."""
    return plan.limit is None or plan.total <= plan.limit


def remedies(config, place, **data):
    """Changes that make a plan fit, each alone where that suffices (list of (str, Plan)).

    Parameters are those of `make_plan`.
    """
    classified = config.has_classifier
    changes = []
    if classified and config.head == "dense":
        changes.append({"head": "sharded"})
    if classified and config.sample_rate > 0.1:
        changes.append({"head": "sharded", "sample_rate": 0.1})
    sizes = [size for size in _halves(config.batch_size) if size % place.shards == 0]
    found = []
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
            spread = dataclasses.replace(config, head="sharded") if classified else config
            words = f"{more.devices} devices" + (" and head=sharded" if spread.head != config.head else "")
            if _keep(found, words, spread, more, data):
                break
    return found


def graph_bytes(symbol, batch_size, inputs=None, *, for_training=True):
    """Numbers in a graph's parameters, and bytes of what it computes, at a batch size.

    MXNet is asked, which shares memory among what is not needed at the same time: the graph is bound on the CPU for a few
    pictures, without being run.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        With the input ``data``.
    batch_size : int
        Pictures.
    inputs : dict of str to int
        Columns of its other inputs; None for one that has a number a sample.
    for_training : bool
        Whether gradients are computed too.

    Returns
    -------
    numbers, bytes : int
    """
    numbers, megabytes = _bound(symbol.tojson(), tuple((inputs or {}).items()), for_training)
    return numbers, megabytes * 2**20 * batch_size // _PICTURES


@functools.lru_cache(maxsize=16)
def _bound(graph, inputs, for_training):
    """Numbers in a graph's parameters, and megabytes of what it computes, for `_PICTURES`."""
    symbol = mx.sym.load_json(graph)
    shapes = {
        "data": (_PICTURES, *IMAGE_SHAPE),
        **{name: (_PICTURES, *([size] if size else [])) for name, size in inputs},
    }
    names = symbol.list_arguments()
    wanted = {name: "write" if for_training and name not in shapes else "null" for name in names}
    executor = symbol.simple_bind(mx.cpu(), grad_req=wanted, **shapes)
    megabytes = int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1))
    return sum(array.size for name, array in executor.arg_dict.items() if name not in shapes), megabytes


def _classifier(config, place, identities, size, share):
    options = {"bias": config.loss == "softmax", "momentum": bool(config.momentum)}
    identities *= config.centres
    if config.head == "dense":
        largest = memory.largest_dense_array(identities, size, share)
        classifier = memory.dense_classifier(identities, size, share, **options)
    else:
        largest = memory.largest_sharded_array(identities, size, shards=place.shards)
        classifier = memory.sharded_classifier(
            identities, size, config.batch_size, shards=place.shards, sample_rate=config.sample_rate, **options
        )
    if config.loss == "curricularface":
        # What hard negatives weigh: three arrays more in the graph, and in shards their slope.
        more = 3 / 2 if config.head == "dense" else 1
        classifier = classifier._replace(logits=classifier.logits + int(more * classifier.logits))
    if largest > memory.MOST_NUMBERS:
        raise SettingError(
            f"a classifier of {identities} identities with head={config.head} on {place.shards} device(s) has an array of "
            f"{largest} numbers, MXNet's hold {memory.MOST_NUMBERS}: give head=sharded, and more devices"
        )
    return classifier


def _keep(found, words, config, place, data):
    try:
        plan = make_plan(config, place, **data)
    except SettingError:
        return False
    if fits(plan):
        found.append((words, plan))
    return fits(plan)


def _words(settings):
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _halves(number):
    while number > 1 and number % 2 == 0:
        number //= 2
        yield number
