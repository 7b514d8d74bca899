"""The operations of an MXNet graph, with every attribute understood; others are an error."""

import ast
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import mxnet as mx

from vargfacenet.errors import ExportError

# Operators of the networks, with the attributes that define their function, and MXNet's defaults for them.
_CONVOLUTION = {"stride": (1, 1), "pad": (0, 0), "dilate": (1, 1), "num_group": 1, "no_bias": False, "layout": None}
_POOLING = {"kernel": (), "stride": (1, 1), "pad": (0, 0), "pool_type": "max", "global_pool": False}
_DECIDE: dict[str, dict[str, Any]] = {
    "Convolution": {"kernel": None, "num_filter": None, **_CONVOLUTION},
    "BatchNorm": {"eps": 1e-3, "fix_gamma": True, "axis": 1, "output_mean_var": False},
    "FullyConnected": {"num_hidden": None, "no_bias": False, "flatten": True},
    "LeakyReLU": {"act_type": "leaky", "slope": 0.25},
    "Activation": {"act_type": None},
    "Pooling": {**_POOLING, "pooling_convention": "valid", "count_include_pad": True, "layout": None},
    "Flatten": {},
    "add_n": {},
    **{f"elemwise_{name}": {} for name in ("add", "sub", "mul")},
    **{f"broadcast_{name}": {} for name in ("add", "sub", "mul", "div")},
    **{f"_{name}_scalar": {"scalar": None} for name in ("plus", "minus", "mul", "div", "maximum")},
    "Concat": {"dim": 1},
    "Reshape": {"shape": None, "reverse": False},
    "SwapAxis": {"dim1": 0, "dim2": 0},
    "transpose": {"axes": ()},
    "slice_axis": {"axis": None, "begin": None, "end": None},
    "Pad": {"mode": None, "pad_width": None, "constant_value": 0},
    "LayerNorm": {"axis": -1, "eps": 1e-5, "output_mean_var": False},
    "norm": {"ord": 2, "axis": None, "keepdims": False},
    "mean": {"axis": (), "keepdims": False, "exclude": False},
    "batch_dot": {"transpose_a": False, "transpose_b": False},
    "softmax": {"axis": -1, "temperature": None, "use_length": False},
    "hard_sigmoid": {"alpha": 0.2, "beta": 0.5},
    "_contrib_BilinearResize2D": {"height": None, "width": None, "align_corners": True, "mode": "size"},
    # In parts that do not depend on an image.
    "_arange": {"start": None, "stop": None, "step": 1.0, "repeat": 1, "infer_range": False, "dtype": None},
    "broadcast_to": {"shape": None},
    "exp": {},
    "sin": {},
}
# Attributes that change speed or training only.
_NEUTRAL = {"workspace", "cudnn_tune", "cudnn_off", "momentum", "use_global_stats", "lower_bound", "upper_bound"}
_NEUTRAL |= {"name", "is_int", "num_args"}
_PASSED_THROUGH = ("_copy", "identity", "Dropout", "BlockGrad", "Cast", "amp_cast")
_OTHER_NAMES = {"_Plus": "elemwise_add", "_plus": "elemwise_add", "_add": "elemwise_add", "ElementWiseSum": "add_n"}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operator in inference mode.

    Attributes
    ----------
    op, name : str
        MXNet's operator, and the node's name.
    attrs : dict
        The attributes that define its function, with defaults, as Python values.
    inputs : tuple of str
        Names of parameters and of other operations.
    """

    op: str
    name: str
    attrs: dict[str, Any]
    inputs: tuple[str, ...]


def read_operations(symbol: mx.sym.Symbol) -> tuple[list[Operation], str]:
    """Return the operations of a graph with one output, each after those it reads, and the name of the last.

    Operations without effect in inference are left out. ExportError for an unknown operator or attribute.
    """
    graph = json.loads(symbol.tojson())
    operations: list[Operation] = []
    names: list[str] = []  # by node, the name of its output; no known operator has two
    for node in graph["nodes"]:
        inputs = tuple(names[source] for source, *_ in node["inputs"])
        if node["op"] == "null":
            names.append(node["name"])
        elif node["op"] in _PASSED_THROUGH:
            names.append(inputs[0])
        else:
            names.append(node["name"])
            op = _OTHER_NAMES.get(node["op"], node["op"])
            operations.append(Operation(op, node["name"], _attributes(op, node), inputs))
    return operations, names[graph["heads"][0][0]]


def _attributes(op: str, node: Mapping[str, Any]) -> dict[str, Any]:
    if op not in _DECIDE:
        known = ", ".join(sorted(_DECIDE))
        raise ExportError(f"node {node['name']!r} is a {node['op']}, which is not supported; supported are {known}")
    attrs = dict(_DECIDE[op])
    for name, text in node.get("attrs", {}).items():
        if name in attrs:
            attrs[name] = _value(text)
        elif name not in _NEUTRAL and not name.startswith("__"):
            raise ExportError(f"{op} {node['name']!r} has the attribute {name}={text}, which is not supported")
    other_axis = op == "BatchNorm" and attrs["axis"] != 1
    if attrs.get("layout") not in (None, "NCHW") or other_axis or attrs.get("output_mean_var"):
        raise ExportError(f"{op} {node['name']!r} has an unsupported layout, axis or output: {node['attrs']}")
    return attrs


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value
