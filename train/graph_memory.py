"""The memory of a graph on MXNet: the numbers of its parameters, and the bytes that it computes."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.free_memory import free_memory

_IMAGES = 16  # images for which graphs are bound; their memory is proportional to the batch
_FLOAT = 4  # bytes


def parameter_count(symbol: mx.sym.Symbol, inputs: Mapping[str, int | None] | None = None) -> int:
    """Return how many numbers a graph's parameters have, from shapes alone; `inputs` are those of `graph_bytes`."""
    shapes = input_shapes(_IMAGES, inputs)
    found, _, _ = symbol.infer_shape(**shapes)
    return sum(math.prod(shape) for name, shape in zip(symbol.list_arguments(), found) if name not in shapes)


def graph_bytes(
    symbol: mx.sym.Symbol, batch_size: int, inputs: Mapping[str, int | None] | None = None, *, for_training: bool = True
) -> tuple[int, int]:
    """Return how many numbers a graph's parameters have, and how many bytes the graph computes at a batch size.

    The graph is bound on the CPU for a few images, without being run. MXNet then reports the bytes, with memory shared
    among arrays that are not needed at the same time. A graph too large to be bound here is taken to keep the outputs of
    all its operators.

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
    numbers = parameter_count(symbol, inputs)
    known = tuple((inputs or {}).items())
    # A bound graph has its parameters and their gradients, and as much again while they are set to zero.
    if 4 * _FLOAT * numbers > free_memory():
        return numbers, _outputs_bytes(symbol, inputs) * batch_size // _IMAGES
    megabytes = _bound(symbol.tojson(), known, for_training)
    return numbers, megabytes * 2**20 * batch_size // _IMAGES


def layout_bytes(
    symbol: mx.sym.Symbol, batch_size: int, inputs: Mapping[str, int | None] | None = None
) -> tuple[int, int]:
    """Return the bytes of what MXNet's own convolutions read and write at a batch size, and of their weights.

    oneDNN keeps them in a layout of its own, apart from the arrays of the graph, and MXNet's report does not count that.
    Arguments are those of `graph_bytes`.
    """
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(**input_shapes(_IMAGES, inputs))
    sizes = dict(zip(internals.list_outputs(), map(math.prod, shapes)))
    nodes = json.loads(symbol.tojson())["nodes"]

    def size(source: int, place: int, *_: int) -> int:
        """Return the numbers of a node's output; operators of libraries have other names for it than MXNet's."""
        name = nodes[source]["name"]
        names = (
            [name]
            if nodes[source]["op"] == "null"
            else [f"{name}_output", f"{name}_output{place}", f"{name}_out{place}"]
        )
        return next(sizes[one] for one in names if one in sizes)

    images = weights = 0
    for number, node in enumerate(nodes):
        if node["op"] == "Convolution":
            x, weight, *_ = node["inputs"]
            images += _FLOAT * (size(*x) + size(number, 0))
            weights += _FLOAT * size(*weight)
    return images * batch_size // _IMAGES, weights


def input_shapes(batch_size: int, inputs: Mapping[str, int | None] | None = None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a graph's inputs; `inputs` are those of `graph_bytes`."""
    shapes: dict[str, tuple[int, ...]] = {"data": (batch_size, *IMAGE_SHAPE)}
    others = (inputs or {}).items()
    return {**shapes, **{name: (batch_size,) if size is None else (batch_size, size) for name, size in others}}


def _outputs_bytes(symbol: mx.sym.Symbol, inputs: Mapping[str, int | None] | None) -> int:
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(**input_shapes(_IMAGES, inputs))
    held = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    return _FLOAT * sum(math.prod(shape) for name, shape in zip(internals.list_outputs(), shapes) if name not in held)


@functools.lru_cache(maxsize=16)
def _bound(graph: str, inputs: tuple[tuple[str, int | None], ...], for_training: bool) -> int:
    """Return how many megabytes a graph computes for `_IMAGES`."""
    symbol, shapes = mx.sym.load_json(graph), input_shapes(_IMAGES, dict(inputs))
    names = symbol.list_arguments()
    wanted = {name: "write" if for_training and name not in shapes else "null" for name in names}
    executor = symbol.simple_bind(mx.cpu(), grad_req=wanted, **shapes)
    return int(re.findall(r"Total (\d+) MB allocated", executor.debug_str())[0])
