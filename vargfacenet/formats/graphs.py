"""Read MXNet's ``-symbol.json`` files and check them before MXNet sees them.

MXNet follows any node number that it reads, allocates what an attribute states, and a graph can name operators that run
other code. Here the nodes that the embedding depends on are selected, checked against a list of operators with their
number of inputs and bounds of their attributes, and written into a new graph; MXNet receives only that.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from typing import Any

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import CheckpointError, DataError
from vargfacenet.formats.files import PathLike, read_json
from vargfacenet.formats.graph_names import OUTPUT, name_apart

log = logging.getLogger(__name__)

MOST_NODES, MOST_ATTRIBUTES, MOST_TEXT = 10_000, 64, 512
MOST_NUMBERS = 1 << 24  # in a node's output for one image; the largest layers of known networks have a million
MOST_NUMBERS_TOGETHER = 1 << 30

Node = dict[str, Any]  # op, name, attrs, inputs

_MANY = 1024
_OF_ONE = """
    Activation BlockGrad Cast Dropout Flatten L2Normalization LRN Pooling Reshape SliceChannel SwapAxis _copy amp_cast cast
    clip flatten hard_sigmoid identity mean relu sigmoid slice_axis softmax sqrt square sum tanh
    Pad _contrib_BilinearResize2D broadcast_to exp norm sin transpose
"""
_OF_TWO = "_Div _Minus _Mul _Plus _add _div _minus _mul _plus _sub"
# The least and the greatest number of inputs of each operator.
_OPERATORS = {
    "Convolution": (2, 3),
    "FullyConnected": (2, 3),
    "BatchNorm": (3, 5),  # graphs from before MXNet 0.9 do not list the running statistics
    "LeakyReLU": (1, 2),
    "InstanceNorm": (3, 3),
    "LayerNorm": (3, 3),
    "batch_dot": (2, 2),
    "_arange": (0, 0),
    **dict.fromkeys(("Concat", "add_n", "ElementWiseSum"), (1, _MANY)),
    **dict.fromkeys(_OF_ONE.split(), (1, 1)),
    **{f"_{name}_scalar": (1, 1) for name in ("plus", "minus", "rminus", "mul", "div", "rdiv", "maximum")},
    **{f"_{name}Scalar": (1, 1) for name in ("Plus", "Minus", "RMinus", "Mul", "Div", "RDiv")},
    **dict.fromkeys(_OF_TWO.split(), (2, 2)),
    **{f"elemwise_{name}": (2, 2) for name in ("add", "sub", "mul", "div")},
    **{f"broadcast_{name}": (2, 2) for name in ("add", "plus", "sub", "minus", "mul", "div")},
}
# Bounds of the attributes that are whole numbers or tuples of them.
_BOUNDS = {
    "kernel": (1, 256),
    "stride": (1, 64),
    "dilate": (1, 64),
    "pad": (0, 64),
    "num_filter": (1, 1 << 20),
    "num_hidden": (1, 1 << 20),
    "num_group": (1, 1 << 20),
    "num_args": (1, _MANY),
    "num_outputs": (1, _MANY),
    "workspace": (0, 1 << 20),
    "p_value": (1, 16),
    "nsize": (1, 255),
    "shape": (-4, 1 << 20),
    "target_shape": (0, 1 << 20),
    "__shape__": (0, 1 << 24),
    "begin": (-(1 << 20), 1 << 20),
    "end": (-(1 << 20), 1 << 20),
    "pad_width": (0, 64),
    **dict.fromkeys(("height", "width"), (1, 1 << 12)),
    **dict.fromkeys(("start", "stop"), (0, 1 << 12)),
    **dict.fromkeys(("step", "repeat"), (1, 1 << 12)),
    **dict.fromkeys(("axis", "axes", "dim", "dim1", "dim2"), (-8, 8)),
}
_WHOLE_NUMBERS = re.compile(r"[(\[]?\s*(-?\d{1,9}L?)?(\s*,\s*-?\d{1,9}L?)*\s*,?\s*[)\]]?", re.ASCII)
_NONE = ("None", "")


def read_graph(path: PathLike, output: str | None = None) -> mx.sym.Symbol:
    """Return the embedding graph in a file.

    Parameters
    ----------
    path
        A ``-symbol.json`` of MXNet 0.8 to 1.9.
    output
        The node whose first output is the embedding, which then is called ``fc1``; nodes that it does not depend on are
        left out. By default ``fc1``, and in a graph without it the only output of two dimensions, which is logged.

    Raises
    ------
    CheckpointError
        Where the file cannot be read or is not a graph, the output is missing, or the graph has an unknown operator, or an
        attribute or layer beyond its bounds.
    """
    try:
        graph = read_json(path)
    except DataError as error:
        raise CheckpointError(f"{path} is not an MXNet graph: {error}") from error
    nodes, heads = _nodes(graph, path)
    wanted = output or OUTPUT
    places = [at for at, node in enumerate(nodes) if node["name"] == wanted and node["op"] != "null"]
    if not places and output is None:
        found = _only_embedding(nodes, heads, graph, path)
        if found is not None:
            log.info("%s has no %s_output: its output %s is taken as the embedding", path, OUTPUT, *found[1:])
            return found[0]
    if len(places) != 1:
        ends = ", ".join(f"{nodes[head]['name']}_output" for head in heads[:8])
        many = f"{len(places)} outputs" if places else "no output"
        raise CheckpointError(
            f"{path} has {many} {wanted + '_output'!r}: it ends in {ends}; 'vargfacenet convert PREFIX OUT --output NAME' "
            "writes a checkpoint whose embedding is the node of that name"
        )
    return _graph_to(places[0], nodes, graph, path)


def _only_embedding(
    nodes: list[Node], heads: list[int], graph: dict[str, Any], path: PathLike
) -> tuple[mx.sym.Symbol, str] | None:
    """Return graph and name of the only output of two dimensions; None where there are none or several."""
    found = []
    for head in dict.fromkeys(heads[:_MANY]):
        if nodes[head]["op"] != "null":
            with contextlib.suppress(CheckpointError, mx.base.MXNetError):
                symbol = _graph_to(head, nodes, graph, path)
                if len(symbol.infer_shape(data=(1, *IMAGE_SHAPE))[1][0]) == 2:
                    found.append((symbol, nodes[head]["name"]))
    return found[0] if len(found) == 1 else None


def _graph_to(place: int, nodes: list[Node], graph: dict[str, Any], path: PathLike) -> mx.sym.Symbol:
    """Return the checked graph up to a node."""
    output = nodes[place]["name"]
    nodes = _depended_on(nodes, place)
    name_apart(nodes, path)
    if not any(node["op"] == "null" and node["name"] == "data" for node in nodes):
        raise CheckpointError(f"{path}: '{output}_output' does not depend on an input named 'data'")
    for node in nodes:
        _check_node(node, nodes, path)
    symbol = _load(nodes, _version(graph), path)
    _check_sizes(symbol, path)
    return symbol


def _nodes(graph: Any, path: PathLike) -> tuple[list[Node], list[int]]:
    """Return the nodes of a graph in one form, and the places of its outputs."""
    try:
        found = graph["nodes"]
        if len(found) > MOST_NODES:
            raise CheckpointError(f"{path} has {len(found)} nodes, expected at most {MOST_NODES}")
        nodes = []
        for index, node in enumerate(found):
            if node.get("subgraphs"):
                raise CheckpointError(
                    f"{path}: node {str(node['name'])[:60]!r} contains graphs of its own, which embedding networks never do"
                )
            attrs = {name: value for part in ("param", "attr", "attrs") for name, value in node.get(part, {}).items()}
            inputs = [[*entry, 0][:3] for entry in node["inputs"]]
            sound = (
                all(len(entry) in (2, 3) for entry in node["inputs"])
                and all(isinstance(text, str) and len(text) <= MOST_TEXT for text in (node["op"], node["name"], *attrs))
                and all(isinstance(text, str) and len(text) <= MOST_TEXT for text in attrs.values())
                and len(attrs) <= MOST_ATTRIBUTES
                and len(inputs) <= _MANY
                and all(type(source) is int and 0 <= source < index for source, *_ in inputs)
                and all(type(number) is int and 0 <= number <= _MANY for _, *rest in inputs for number in rest)
            )
            if not sound:
                raise ValueError
            nodes.append({"op": node["op"], "name": node["name"], "attrs": attrs, "inputs": inputs})
        heads = [head[0] for head in graph["heads"]]
        if not nodes or not heads or not all(type(head) is int and 0 <= head < len(nodes) for head in heads):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise CheckpointError(f"{path} is not an MXNet graph, or is damaged") from None
    return nodes, heads


def _depended_on(nodes: list[Node], place: int) -> list[Node]:
    """Return the nodes that the one at `place` depends on, with that one last."""
    wanted = {place}
    for index in range(place, -1, -1):
        if index in wanted:
            wanted.update(source for source, *_ in nodes[index]["inputs"])
    places = {old: new for new, old in enumerate(sorted(wanted))}
    return [
        {**nodes[old], "inputs": [[places[source], *rest] for source, *rest in nodes[old]["inputs"]]} for old in places
    ]


def _check_node(node: Node, nodes: list[Node], path: PathLike) -> None:
    where = f"{path}: node {node['name'][:60]!r}"
    for name in node["attrs"]:
        if name in _BOUNDS and (node["op"] != "null" or name == "__shape__"):
            _check_bounds(node, name, where)
    if node["op"] == "null":
        if node["inputs"]:
            raise CheckpointError(f"{where} is a parameter but has inputs: it is damaged")
        return
    if node["op"] not in _OPERATORS:
        raise CheckpointError(f"{where} is a {node['op'][:60]}, an operator that no known embedding network has")
    least, most = _OPERATORS[node["op"]]
    if not least <= len(node["inputs"]) <= most:
        raise CheckpointError(f"{where}, a {node['op']}, has {len(node['inputs'])} inputs, expected {least} to {most}")
    for source, number, _ in node["inputs"]:
        outputs = re.findall(r"\d+", nodes[source]["attrs"].get("num_outputs", "1"))  # only SliceChannel has it
        if number and (nodes[source]["op"] != "SliceChannel" or number >= int(outputs[0])):
            raise CheckpointError(
                f"{where} reads output {number} of {nodes[source]['name'][:60]!r}, which does not exist"
            )


def _check_bounds(node: Node, name: str, where: str) -> None:
    text = node["attrs"][name].strip()
    if text in _NONE:
        return
    low, high = _BOUNDS[name]
    numbers = [int(number) for number in re.findall(r"-?\d+", text)] if _WHOLE_NUMBERS.fullmatch(text) else None
    if numbers is None or len(numbers) > 8 or not all(low <= number <= high for number in numbers):
        raise CheckpointError(f"{where}: {name}={text[:60]}, expected whole numbers in {low}..{high}")


def _version(graph: Any) -> int | None:
    """Return the version of the MXNet that wrote the graph, by which MXNet upgrades it; None where it is not stated."""
    try:
        kind, number = graph["attrs"]["mxnet_version"]
        return int(number) if kind == "int" and 0 < number < 100_000 else None
    except (KeyError, TypeError, ValueError):
        return None


def _load(nodes: list[Node], version: int | None, path: PathLike) -> mx.sym.Symbol:
    graph = {
        "nodes": nodes,
        "arg_nodes": [index for index, node in enumerate(nodes) if node["op"] == "null"],
        "node_row_ptr": list(range(len(nodes) + 1)),  # MXNet computes these again
        "heads": [[len(nodes) - 1, 0, 0]],
        **({"attrs": {"mxnet_version": ["int", version]}} if version else {}),
    }
    try:
        with _quiet():
            return mx.sym.load_json(json.dumps(graph))
    except (mx.base.MXNetError, ValueError) as error:
        raise CheckpointError(f"{path} is not an MXNet graph: {first_line(error)}") from error


def _check_sizes(symbol: mx.sym.Symbol, path: PathLike) -> None:
    internals = symbol.get_internals()
    try:
        _, shapes, _ = internals.infer_shape_partial(data=(1, *IMAGE_SHAPE))
    except (mx.base.MXNetError, ValueError) as error:
        raise CheckpointError(f"the graph of {path} does not fit faces of 112x112: {first_line(error)}") from error
    # The sizes of weights are checked against the file of parameters instead.
    weights = {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {"data"}
    outputs = zip(internals.list_outputs(), shapes or [])
    sizes = {name: math.prod(shape) for name, shape in outputs if name not in weights}
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    if largest and (sizes[largest] > MOST_NUMBERS or sum(sizes.values()) > MOST_NUMBERS_TOGETHER):
        raise CheckpointError(
            f"{path}: for one face, {largest!r} has {sizes[largest]} numbers and all nodes {sum(sizes.values())}; "
            f"expected at most {MOST_NUMBERS} and {MOST_NUMBERS_TOGETHER}"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence standard error of MXNet's C++ code, which reports every graph of an older version."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def first_line(error: Exception) -> str:
    """Return the line of an error of MXNet that states the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("MXNetError")), lines[-1] if lines else "empty file")
