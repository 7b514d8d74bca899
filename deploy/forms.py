"""ONNX forms of the operators that move, split and join numbers, and of those of attention.

A form takes an `Operation`, the shapes of all operations for a batch of two, and the constants, to which it may add. It
returns nodes, the last of which carries the operation's name.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Union

import numpy as np

from vargfacenet.deploy.graph import ON_TOKENS, Node
from vargfacenet.deploy.nodes import Operation
from vargfacenet.errors import ExportError

Shapes = Mapping[str, tuple[int, ...]]
Constants = dict[str, np.ndarray]
Form = Callable[[Operation, Shapes, Constants], list[Node]]


def linear_on_tokens(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    """Return a fully connected layer on the last of more than two axes."""
    x, weight, *bias = one.inputs
    transposed = f"{one.name}{ON_TOKENS}"
    constants[transposed] = np.ascontiguousarray(constants[weight].T)
    if not bias:
        return [Node("MatMul", one.name, [x, transposed])]
    product = Node("MatMul", f"{one.name}_product", [x, transposed])
    return [product, Node("Add", one.name, [product.name, bias[0]])]


def gelu(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    """Return ``x * (1 + erf(x / sqrt(2))) / 2`` [Hendrycks and Gimpel, arXiv 1606.08415], as runtimes fuse it."""
    steps = _Steps(one, constants)
    x = one.inputs[0]
    shifted = steps.add("Add", steps.add("Erf", steps.add("Div", x, math.sqrt(2))), 1.0)
    return steps.end("Mul", steps.add("Mul", x, shifted), 0.5)


def _layer_norm(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    x, gamma, beta = one.inputs
    if one.attrs["axis"] not in (-1, len(shapes[x]) - 1):
        raise ExportError(f"LayerNorm {one.name!r} is over axis {one.attrs['axis']}; only the last is supported")
    steps = _Steps(one, constants)
    centred = steps.add("Sub", x, steps.add("ReduceMean", x, axes=[-1], keepdims=1))
    variance = steps.add("ReduceMean", steps.add("Mul", centred, centred), axes=[-1], keepdims=1)
    deviation = steps.add("Sqrt", steps.add("Add", variance, float(one.attrs["eps"])))
    return steps.end("Add", steps.add("Mul", steps.add("Div", centred, deviation), gamma), beta)


def _reshape(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    # Only the first axis depends on the number of images.
    steps = _Steps(one, constants)
    return steps.end("Reshape", one.inputs[0], np.array([-1, *shapes[one.name][1:]], np.int64))


def _swap(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    axes = list(range(len(shapes[one.inputs[0]])))
    first, second = one.attrs["dim1"], one.attrs["dim2"]
    axes[first], axes[second] = axes[second], axes[first]
    return [Node("Transpose", one.name, list(one.inputs), {"perm": axes})]


def _transpose(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    axes = list(one.attrs["axes"]) or list(range(len(shapes[one.inputs[0]])))[::-1]
    return [Node("Transpose", one.name, list(one.inputs), {"perm": axes})]


def _concat(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    return [Node("Concat", one.name, list(one.inputs), {"axis": one.attrs["dim"]})]


def _slice_axis(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    axis = one.attrs["axis"] % len(shapes[one.inputs[0]])
    end = shapes[one.inputs[0]][axis] if one.attrs["end"] is None else one.attrs["end"]
    bounds = (np.array([number], np.int64) for number in (one.attrs["begin"], end, axis))
    return _Steps(one, constants).end("Slice", one.inputs[0], *bounds)


def _pad(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    if one.attrs["mode"] != "constant":
        raise ExportError(f"Pad {one.name!r} has the mode {one.attrs['mode']}; only constant is supported")
    widths = one.attrs["pad_width"]  # before and after, axis by axis
    pads = np.array([*widths[::2], *widths[1::2]], np.int64)
    return _Steps(one, constants).end("Pad", one.inputs[0], pads, float(one.attrs["constant_value"]))


def _resize(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    """Return bilinear interpolation as two matrix products, which every runtime computes alike."""
    if one.attrs["align_corners"] or one.attrs["mode"] != "size":
        raise ExportError(f"BilinearResize2D {one.name!r} aligns corners or has a mode other than size")
    height, width = shapes[one.inputs[0]][2:]
    steps = _Steps(one, constants)
    rows = steps.add("MatMul", one.inputs[0], interpolation(width, one.attrs["width"]).T.copy())
    return steps.end("MatMul", interpolation(height, one.attrs["height"]), rows)


def interpolation(before: int, after: int) -> np.ndarray:
    """Return the matrix (after, before) that interpolates a row of numbers linearly, with half-pixel centres."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(before))).astype(np.float32)


def _norm(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    if one.attrs["ord"] != 2 or not isinstance(one.attrs["axis"], int):
        raise ExportError(f"norm {one.name!r} is not the L2 norm over one axis: {one.attrs}")
    attrs = {"axes": [one.attrs["axis"]], "keepdims": int(one.attrs["keepdims"])}
    return [Node("ReduceL2", one.name, list(one.inputs), attrs)]


def _mean(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    axes = one.attrs["axis"]
    axes = [axes] if isinstance(axes, int) else list(axes)
    if not axes or one.attrs["exclude"]:
        raise ExportError(f"mean {one.name!r} excludes the axes that it names: {one.attrs}")
    return [Node("ReduceMean", one.name, list(one.inputs), {"axes": axes, "keepdims": int(one.attrs["keepdims"])})]


def _batch_dot(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    steps, inputs = _Steps(one, constants), []
    for x, side in zip(one.inputs, "ab"):
        inputs.append(steps.add("Transpose", x, perm=[0, 2, 1]) if one.attrs[f"transpose_{side}"] else x)
    return steps.end("MatMul", *inputs)


def _softmax(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    axis = one.attrs["axis"] % len(shapes[one.inputs[0]])
    if axis != len(shapes[one.inputs[0]]) - 1 or one.attrs["temperature"] or one.attrs["use_length"]:
        raise ExportError(f"softmax {one.name!r} is not over the last axis, or has a temperature or length")
    return [Node("Softmax", one.name, list(one.inputs), {"axis": axis})]


def _hard_sigmoid(one: Operation, shapes: Shapes, constants: Constants) -> list[Node]:
    attrs = {"alpha": float(one.attrs["alpha"]), "beta": float(one.attrs["beta"])}
    return [Node("HardSigmoid", one.name, list(one.inputs), attrs)]


class _Steps:
    """Collects the nodes of one operation. Inputs are names, numbers or arrays; numbers and arrays become constants."""

    def __init__(self, one: Operation, constants: Constants) -> None:
        self._name, self._constants = one.name, constants
        self._nodes: list[Node] = []

    def add(self, op: str, *inputs: "_Input", **attrs: Any) -> str:
        """Add a node and return its name."""
        return self._place(op, f"{self._name}_step{len(self._nodes)}", inputs, attrs)

    def end(self, op: str, *inputs: "_Input", **attrs: Any) -> list[Node]:
        """Add the node with the operation's name and return all nodes."""
        self._place(op, self._name, inputs, attrs)
        return self._nodes

    def _place(self, op: str, name: str, inputs: tuple["_Input", ...], attrs: dict[str, Any]) -> str:
        names = []
        for place, value in enumerate(inputs):
            if not isinstance(value, str):
                constant = f"{name}_constant{place}"
                self._constants[constant] = np.asarray(value, np.float32) if isinstance(value, float) else value
                value = constant
            names.append(value)
        self._nodes.append(Node(op, name, names, attrs))
        return name


_Input = Union[str, float, np.ndarray]

FORMS: dict[str, Form] = {
    "LayerNorm": _layer_norm,
    "Reshape": _reshape,
    "SwapAxis": _swap,
    "transpose": _transpose,
    "Concat": _concat,
    "slice_axis": _slice_axis,
    "Pad": _pad,
    "_contrib_BilinearResize2D": _resize,
    "norm": _norm,
    "mean": _mean,
    "batch_dot": _batch_dot,
    "softmax": _softmax,
    "hard_sigmoid": _hard_sigmoid,
}
