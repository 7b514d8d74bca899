"""Reads MXNet's ``-symbol.json`` files: what is known of embedding networks, looked at before MXNet sees it.

MXNet follows whatever node number it reads, allocates whatever an attribute says, and a graph can name operators that
run other code. Here the nodes that an embedding depends on are picked out, held against a list of operators with the
number of their inputs and bounds for their attributes, and written anew; MXNet is given that and nothing of the file.
"""

import contextlib
import json
import logging
import math
import os
import re

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import CheckpointError, DataError
from vargfacenet.formats.files import read_json
from vargfacenet.formats.graph_names import OUTPUT, name_apart

MOST_NODES, MOST_ATTRIBUTES, MOST_TEXT = 10_000, 64, 512
log = logging.getLogger(__name__)
MOST_NUMBERS = 1 << 24  # in what one node gives of one image; the largest layers of known networks give a million
MOST_NUMBERS_TOGETHER = 1 << 30

_MANY = 1024
_OF_ONE = """
    Activation BlockGrad Cast Dropout Flatten L2Normalization LRN Pooling Reshape SliceChannel SwapAxis _copy amp_cast cast
    clip flatten hard_sigmoid identity mean relu sigmoid slice_axis softmax sqrt square sum tanh
    Pad _contrib_BilinearResize2D broadcast_to exp norm sin transpose
"""
_OF_TWO = "_Div _Minus _Mul _Plus _add _div _minus _mul _plus _sub"
# Operators by the least and the most inputs they take.
_OPERATORS = {
    "Convolution": (2, 3),
    "FullyConnected": (2, 3),
    "BatchNorm": (3, 5),  # graphs of before 0.9 do not list the running statistics
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
# Attributes that are whole numbers, or rows of them, and their bounds.
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


def read_graph(path, output=None):
    """The embedding graph in a file.

    Parameters
    ----------
    path : path
        A ``-symbol.json`` of MXNet 0.8 to 1.9.
    output : str, optional
        The node whose first output is the embedding, which then is called ``fc1``; what it does not depend on is left out.
        By default ``fc1``, and in a graph without it the only output of two dimensions, with a remark in the log.

    Returns
    -------
    mx.sym.Symbol

    Raises
    ------
    CheckpointError
        Where the file cannot be read, holds no graph or not this output, or the graph has an operator that is not known,
        or an attribute or layer out of all proportion.
    """
    try:
        graph = read_json(path)
    except DataError as error:
        raise CheckpointError(f"{path} holds no MXNet graph: {error}") from error
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


def _only_embedding(nodes, heads, graph, path):
    """Graph and name of the only head that gives rows of numbers; None where there are none or several."""
    found = []
    for head in dict.fromkeys(heads[:_MANY]):
        if nodes[head]["op"] != "null":
            with contextlib.suppress(CheckpointError, mx.base.MXNetError):
                symbol = _graph_to(head, nodes, graph, path)
                if len(symbol.infer_shape(data=(1, *IMAGE_SHAPE))[1][0]) == 2:
                    found.append((symbol, nodes[head]["name"]))
    return found[0] if len(found) == 1 else None


def _graph_to(place, nodes, graph, path):
    """The graph (mx.sym.Symbol) up to a node, checked."""
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


def _nodes(graph, path):
    """The nodes of a graph in one form (list of dict: op, name, attrs, inputs) and the places of its outputs."""
    try:
        found = graph["nodes"]
        if len(found) > MOST_NODES:
            raise CheckpointError(f"{path} has {len(found)} nodes, at most {MOST_NODES} are taken")
        nodes = []
        for index, node in enumerate(found):
            if node.get("subgraphs"):
                raise CheckpointError(
                    f"{path}: node {str(node['name'])[:60]!r} holds graphs of its own, which none needs"
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
        raise CheckpointError(f"{path} holds no MXNet graph, or is damaged") from None
    return nodes, heads


def _depended_on(nodes, place):
    """The nodes that the one at `place` depends on, and itself, the last of them."""
    wanted = {place}
    for index in range(place, -1, -1):
        if index in wanted:
            wanted.update(source for source, *_ in nodes[index]["inputs"])
    places = {old: new for new, old in enumerate(sorted(wanted))}
    return [
        {**nodes[old], "inputs": [[places[source], *rest] for source, *rest in nodes[old]["inputs"]]} for old in places
    ]


def _check_node(node, nodes, path):
    where = f"{path}: node {node['name'][:60]!r}"
    for name in node["attrs"]:
        if name in _BOUNDS and (node["op"] != "null" or name == "__shape__"):
            _check_bounds(node, name, where)
    if node["op"] == "null":
        if node["inputs"]:
            raise CheckpointError(f"{where} is a parameter and has inputs: it is damaged")
        return
    if node["op"] not in _OPERATORS:
        raise CheckpointError(f"{where} is a {node['op'][:60]}, an operator that no embedding network here needs")
    least, most = _OPERATORS[node["op"]]
    if not least <= len(node["inputs"]) <= most:
        raise CheckpointError(f"{where}, a {node['op']}, has {len(node['inputs'])} inputs, expected {least} to {most}")
    for source, number, _ in node["inputs"]:
        outputs = re.findall(r"\d+", nodes[source]["attrs"].get("num_outputs", "1"))  # of SliceChannel alone
        if number and (nodes[source]["op"] != "SliceChannel" or number >= int(outputs[0])):
            raise CheckpointError(
                f"{where} reads output {number} of {nodes[source]['name'][:60]!r}, which has none such"
            )


def _check_bounds(node, name, where):
    text = node["attrs"][name].strip()
    if text in _NONE:
        return
    low, high = _BOUNDS[name]
    numbers = [int(number) for number in re.findall(r"-?\d+", text)] if _WHOLE_NUMBERS.fullmatch(text) else None
    if numbers is None or len(numbers) > 8 or not all(low <= number <= high for number in numbers):
        raise CheckpointError(f"{where}: {name}={text[:60]}, expected whole numbers in {low}..{high}")


def _version(graph):
    """MXNet's version that wrote the graph, by which it knows what has changed since."""
    try:
        kind, number = graph["attrs"]["mxnet_version"]
        return int(number) if kind == "int" and 0 < number < 100_000 else None
    except (KeyError, TypeError, ValueError):
        return None


def _load(nodes, version, path):
    graph = {
        "nodes": nodes,
        "arg_nodes": [index for index, node in enumerate(nodes) if node["op"] == "null"],
        "node_row_ptr": list(range(len(nodes) + 1)),  # MXNet counts these anew
        "heads": [[len(nodes) - 1, 0, 0]],
        **({"attrs": {"mxnet_version": ["int", version]}} if version else {}),
    }
    try:
        with _quiet():
            return mx.sym.load_json(json.dumps(graph))
    except (mx.base.MXNetError, ValueError) as error:
        raise CheckpointError(f"{path} holds no MXNet graph: {first_line(error)}") from error


def _check_sizes(symbol, path):
    internals = symbol.get_internals()
    try:
        _, shapes, _ = internals.infer_shape_partial(data=(1, *IMAGE_SHAPE))
    except (mx.base.MXNetError, ValueError) as error:
        raise CheckpointError(f"the graph of {path} does not fit faces of 112x112: {first_line(error)}") from error
    # Weights are as large as the file of parameters has them.
    weights = {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {"data"}
    outputs = zip(internals.list_outputs(), shapes or [])
    sizes = {name: math.prod(shape) for name, shape in outputs if name not in weights}
    largest = max(sizes, key=sizes.get, default=None)
    if largest and (sizes[largest] > MOST_NUMBERS or sum(sizes.values()) > MOST_NUMBERS_TOGETHER):
        raise CheckpointError(
            f"{path}: of one face, {largest!r} alone has {sizes[largest]} numbers and all nodes {sum(sizes.values())}; at "
            f"most {MOST_NUMBERS} and {MOST_NUMBERS_TOGETHER} are taken"
        )


@contextlib.contextmanager
def _quiet():
    """Keeps standard error from MXNet's C++ code, which remarks on every graph of an older version."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def first_line(error):
    """What an error of MXNet says in its first line that says anything (str)."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("MXNetError")), lines[-1] if lines else "empty file")
