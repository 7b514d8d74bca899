"""Translation of a checkpoint to a graph of ONNX operators, one function for each of MXNet's, with BN folded."""

from collections.abc import Collection, Sequence
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.deploy.forms import FORMS, Constants, Form, Shapes, gelu, linear_on_tokens
from vargfacenet.deploy.graph import Graph, Node
from vargfacenet.deploy.nodes import Operation, read_operations
from vargfacenet.errors import ExportError
from vargfacenet.formats.checkpoint import Checkpoint
from vargfacenet.operators import output_shapes


def translate(checkpoint: Checkpoint) -> Graph:
    """Return the graph of a checkpoint in ONNX's operators, equal in result.

    BN after a convolution or fully connected layer is folded into it; elsewhere, as before the padded convolutions of a
    ResNet's units, it stays. A scale that the graph fixes (``fix_gamma``) is 1 whatever the checkpoint holds.
    ExportError for an operator, or a use of one, without a form here.
    """
    operations, output = read_operations(checkpoint.symbol)
    values = {name: value.asnumpy() for part in checkpoint[1:] for name, value in part.items()}
    shapes = output_shapes(checkpoint.symbol, (2, *IMAGE_SHAPE))
    nodes: list[Node] = []
    constants = {name: np.asarray(value, np.float32) for name, value in values.items()}
    fixed = independent_of_data(operations, values)
    constants.update(evaluate(checkpoint, operations, fixed))
    for one in operations:
        if one.name not in fixed:
            nodes += _form(one.op)(one, shapes, constants)
    size = checkpoint.symbol.infer_shape(data=(2, *IMAGE_SHAPE))[1][0][1]
    graph = Graph(nodes, constants, output, size)
    fold_batch_norms(graph)
    return graph


def independent_of_data(operations: Sequence[Operation], parameters: Collection[str]) -> set[str]:
    """Return the names of the operations that read parameters and each other only, such as an encoding of positions."""
    fixed: set[str] = set()
    for one in operations:
        if all(name in parameters or name in fixed for name in one.inputs):
            fixed.add(one.name)
    return fixed


def evaluate(checkpoint: Checkpoint, operations: Sequence[Operation], fixed: Collection[str]) -> dict[str, np.ndarray]:
    """Compute the operations of `fixed` that other operations read."""
    wanted = {name for one in operations if one.name not in fixed for name in one.inputs if name in fixed}
    if not wanted:
        return {}
    internals = checkpoint.symbol.get_internals()
    group = mx.sym.Group([internals[f"{name}_output"] for name in sorted(wanted)])
    values = {**checkpoint.args, **checkpoint.auxs}
    outputs = group.bind(mx.cpu(), {name: values[name] for name in group.list_arguments()}).forward()
    return {name: output.asnumpy() for name, output in zip(sorted(wanted), outputs)}


def _form(op: str) -> Form:
    form = _FORMS.get(op, FORMS.get(op))
    if form is None:
        raise ExportError(f"{op} on data that depend on the image has no form in ONNX here")
    return form


def fold_batch_norms(graph: Graph) -> None:
    """Fold each BN into the convolution or product before it, where no other node reads the latter.

    In inference mode BN is ``scale * x + shift`` with ``scale = gamma / sqrt(var + eps)`` and ``shift = beta - scale *
    mean``, for each channel [Ioffe and Szegedy, arXiv 1502.03167, algorithm 2]; computed in double precision.
    """
    readers, nodes = graph.readers(), graph.by_name()
    for norm in [node for node in graph.nodes if node.op == "BatchNormalization"]:
        before = nodes.get(norm.inputs[0])
        if before is None or before.op not in ("Conv", "Gemm") or len(readers[before.name]) > 1:
            continue
        gamma, beta, mean, var = (graph.constants[name].astype(np.float64) for name in norm.inputs[1:])
        scale = gamma / np.sqrt(var + norm.attrs["epsilon"])
        weight = graph.constants[before.inputs[1]].astype(np.float64)
        bias = graph.constants[before.inputs[2]].astype(np.float64) if len(before.inputs) > 2 else 0
        before.name = norm.name
        before.inputs[1:] = [f"{norm.name}_folded_weight", f"{norm.name}_folded_bias"]
        folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + beta - scale * mean
        graph.constants.update({name: value.astype(np.float32) for name, value in zip(before.inputs[1:], folded)})
        graph.nodes.remove(norm)
        nodes[norm.name] = before
    graph.prune()


def _convolution(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    attrs = one.attrs
    if len(attrs["kernel"]) != 2:
        raise ExportError(f"convolution {one.name!r} has kernel {attrs['kernel']}; expected two numbers")
    size = {"kernel_shape": attrs["kernel"], "strides": attrs["stride"], "dilations": attrs["dilate"]}
    pads = {"pads": [*attrs["pad"], *attrs["pad"]], "group": attrs["num_group"]}
    return [Node("Conv", one.name, list(one.inputs), {**{k: list(v) for k, v in size.items()}, **pads})]


def _batch_norm(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    x, gamma, *rest = one.inputs
    if one.attrs["fix_gamma"]:
        gamma = f"{one.name}_ones"
        constants[gamma] = np.ones(shapes[rest[0]], np.float32)
    return [Node("BatchNormalization", one.name, [x, gamma, *rest], {"epsilon": float(one.attrs["eps"])})]


def _fully_connected(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    x, weight, *bias = one.inputs
    nodes = []
    if len(shapes[x]) != 2:
        if not one.attrs["flatten"]:
            return linear_on_tokens(one, shapes, constants)
        nodes.append(Node("Flatten", f"{one.name}_flat", [x], {"axis": 1}))
        x = nodes[0].name
    # Older runtimes require the third input.
    if not bias:
        bias = [f"{one.name}_zeros"]
        constants[bias[0]] = np.zeros(shapes[weight][0], np.float32)
    return [*nodes, Node("Gemm", one.name, [x, weight, *bias], {"transB": 1})]


def _leaky(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    kind, x = one.attrs["act_type"], one.inputs[0]
    if kind == "prelu":
        slope = one.inputs[1]
        # One slope per channel, which broadcasts from the right: (C, 1, 1) for images, (C,) for rows.
        slopes = np.broadcast_to(constants[slope], shapes[x][1:2])
        constants[slope] = slopes.reshape(-1, *[1] * (len(shapes[x]) - 2))
        return [Node("PRelu", one.name, [x, slope])]
    if kind == "gelu":
        return gelu(one, shapes, constants)
    if kind in ("leaky", "elu"):
        op = {"leaky": "LeakyRelu", "elu": "Elu"}[kind]
        return [Node(op, one.name, [x], {"alpha": float(one.attrs["slope"])})]
    raise ExportError(f"LeakyReLU {one.name!r} has the type {kind}; supported are prelu, gelu, leaky and elu")


def _activation(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    known = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    if one.attrs["act_type"] not in known:
        raise ExportError(
            f"Activation {one.name!r} has the type {one.attrs['act_type']}; supported are {', '.join(known)}"
        )
    return [Node(known[one.attrs["act_type"]], one.name, list(one.inputs))]


def _pooling(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    attrs = one.attrs
    kinds = {"avg": "AveragePool", "max": "MaxPool"}
    # Global pooling has no window to round; Gluon states "full" for it.
    if attrs["pool_type"] not in kinds or (attrs["pooling_convention"] != "valid" and not attrs["global_pool"]):
        raise ExportError(
            f"Pooling {one.name!r} has the type {attrs['pool_type']} with convention {attrs['pooling_convention']}; "
            "supported are avg and max with convention valid"
        )
    op = kinds[attrs["pool_type"]]
    if attrs["global_pool"]:
        return [Node(f"Global{op}", one.name, list(one.inputs))]
    size: dict[str, Any] = {
        "kernel_shape": list(attrs["kernel"]),
        "strides": list(attrs["stride"]),
        "pads": [*attrs["pad"]] * 2,
    }
    if op == "AveragePool":
        size["count_include_pad"] = int(attrs["count_include_pad"])
    return [Node(op, one.name, list(one.inputs), size)]


def _plain(op: str, **attrs: Any) -> Form:
    return lambda one, shapes, constants: [Node(op, one.name, list(one.inputs), dict(attrs))]


def _scalar(op: str) -> Form:
    def form(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
        constants[f"{one.name}_scalar"] = np.asarray(one.attrs["scalar"], np.float32)
        return [Node(op, one.name, [one.inputs[0], f"{one.name}_scalar"])]

    return form


_FORMS: dict[str, Form] = {
    "Convolution": _convolution,
    "BatchNorm": _batch_norm,
    "FullyConnected": _fully_connected,
    "LeakyReLU": _leaky,
    "Activation": _activation,
    "Pooling": _pooling,
    "Flatten": _plain("Flatten", axis=1),
    "add_n": _plain("Sum"),
    "elemwise_add": _plain("Add"),
    "elemwise_sub": _plain("Sub"),
    "elemwise_mul": _plain("Mul"),
    "broadcast_add": _plain("Add"),
    "broadcast_sub": _plain("Sub"),
    "broadcast_mul": _plain("Mul"),
    "broadcast_div": _plain("Div"),
    "_plus_scalar": _scalar("Add"),
    "_minus_scalar": _scalar("Sub"),
    "_mul_scalar": _scalar("Mul"),
    "_div_scalar": _scalar("Div"),
    "_maximum_scalar": _scalar("Max"),
}
