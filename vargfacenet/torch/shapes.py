"""Arithmetic, reductions, and what moves numbers about."""

from __future__ import annotations

import math
import operator as arithmetic
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.registry import Constant, Operator, enter_plain, operator

for _name, _function in {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}.items():
    _older = {"add": ("_Plus", "_plus", "_add"), "sub": ("_Minus", "_minus", "_sub"), "mul": ("_Mul", "_mul")}
    enter_plain(_function, f"elemwise_{_name}", f"broadcast_{_name}", *_older.get(_name, ("_Div", "_div")))
enter_plain(torch.add, "broadcast_plus")
enter_plain(torch.sub, "broadcast_minus")
enter_plain(lambda *terms: sum(terms[1:], terms[0]), "add_n", "ElementWiseSum", "_sum")
enter_plain(lambda data: data, "_copy", "identity")
enter_plain(lambda data: data.detach(), "BlockGrad", "stop_gradient")
enter_plain(lambda data: data.flatten(1), "Flatten", "flatten")
for _name in ("relu", "sigmoid", "tanh", "exp", "sin", "cos", "sqrt", "square", "arccos", "floor", "negative"):
    enter_plain(getattr(torch, _name), _name)

_SCALARS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "plus": arithmetic.add,
    "minus": arithmetic.sub,
    "rminus": lambda data, number: number - data,
    "mul": arithmetic.mul,
    "div": arithmetic.truediv,
    "rdiv": lambda data, number: number / data,
    "maximum": lambda data, number: data.clamp(min=number),
    "minimum": lambda data, number: data.clamp(max=number),
    "power": arithmetic.pow,
}


def _enter_scalar(function: Callable[[Tensor, float], Tensor], *names: str) -> None:
    def build(attributes: Attributes) -> Operator:
        number = float(attributes.value("scalar"))
        return lambda training, data: function(data, number)

    operator(*names)(build)


for _name, _function in _SCALARS.items():
    _older_name = "_R" + _name[1:].capitalize() if _name.startswith("r") else "_" + _name.capitalize()
    _enter_scalar(_function, f"_{_name}_scalar", f"{_older_name}Scalar")


@operator("Cast", "cast", "amp_cast")
def cast(attributes: Attributes) -> Operator:
    """Return a change of type."""
    name = attributes.choice("dtype", ("float32", "float16", "float64", "int32", "int64", "uint8"))
    dtype = getattr(torch, name)
    return lambda training, data: data.to(dtype)


@operator("clip")
def clip(attributes: Attributes) -> Operator:
    """Return a limitation to a range, ends included, also in the gradient."""
    low, high = float(attributes.value("a_min")), float(attributes.value("a_max"))
    return lambda training, data: data.clamp(low, high)


def _axes(attributes: Attributes, ndim: int) -> tuple[int, ...]:
    axes = attributes.numbers("axis", ())
    if attributes.flag("exclude", False):
        kept = {axis % ndim for axis in axes}
        return tuple(axis for axis in range(ndim) if axis not in kept)
    return axes or tuple(range(ndim))


def _enter_reduction(function: Callable[..., Tensor], *names: str) -> None:
    def build(attributes: Attributes) -> Operator:
        keep = attributes.flag("keepdims", False)
        _axes(attributes, 1)

        def run(training: bool, data: Tensor) -> Tensor:
            reduced = function(data, _axes(attributes, data.ndim), keepdim=keep)
            return reduced if reduced.ndim else reduced.reshape(1)  # MXNet has no arrays without an axis

        return run

    operator(*names)(build)


_enter_reduction(torch.sum, "sum")
_enter_reduction(torch.mean, "mean")


@operator("norm")
def norm(attributes: Attributes) -> Operator:
    """Return the length along one axis or several, or the sum of absolute values."""
    order, keep = int(attributes.choice("ord", (1, 2), 2)), attributes.flag("keepdims", False)
    axes = attributes.numbers("axis", ())
    attributes.choice("out_dtype", (None,), None)

    def run(training: bool, data: Tensor) -> Tensor:
        reduced = torch.linalg.vector_norm(data, order, axes or None, keep)
        return reduced if reduced.ndim else reduced.reshape(1)

    return run


def _enter_softmax(function: Callable[..., Tensor], name: str) -> None:
    def build(attributes: Attributes) -> Operator:
        axis, temperature = int(attributes.value("axis", -1)), attributes.value("temperature", None)
        attributes.choice("use_length", (False, "false"), False)
        attributes.choice("dtype", (None,), None)
        return lambda training, data: function(data / temperature if temperature else data, axis)

    operator(name)(build)


_enter_softmax(functional.softmax, "softmax")
_enter_softmax(functional.log_softmax, "log_softmax")


@operator("argmax")
def argmax(attributes: Attributes) -> Operator:
    """Return the place of the largest number along an axis, the first of equals, as float32."""
    axis, keep = int(attributes.value("axis")), attributes.flag("keepdims", False)
    return lambda training, data: data.argmax(axis, keep).to(torch.float32)


@operator("one_hot")
def one_hot(attributes: Attributes) -> Operator:
    """Return rows of zeros with a one at the label; a label out of range gives zeros alone."""
    depth = int(attributes.value("depth"))
    on, off = float(attributes.value("on_value", 1.0)), float(attributes.value("off_value", 0.0))
    attributes.choice("dtype", ("float32",), "float32")

    def run(training: bool, label: Tensor) -> Tensor:
        hits = label.long().unsqueeze(-1) == torch.arange(depth, device=label.device)
        return torch.where(hits, on, off).to(torch.float32)

    return run


@operator("pick")
def pick(attributes: Attributes) -> Operator:
    """Return of each row the number at its label; a label out of range counts as the nearest one."""
    axis, keep = int(attributes.value("axis", -1)), attributes.flag("keepdims", False)
    attributes.choice("mode", ("clip",), "clip")

    def run(training: bool, data: Tensor, label: Tensor) -> Tensor:
        places = label.long().clamp(0, data.shape[axis] - 1)
        places = places if places.ndim == data.ndim else places.unsqueeze(axis)
        found = data.gather(axis, places)
        return found if keep else found.squeeze(axis)

    return run


@operator("batch_dot")
def batch_dot(attributes: Attributes) -> Operator:
    """Return the product of matrices, one pair for each of the first axis."""
    first, second = attributes.flag("transpose_a", False), attributes.flag("transpose_b", False)
    attributes.choice("forward_stype", (None,), None)

    def run(training: bool, left: Tensor, right: Tensor) -> Tensor:
        return torch.bmm(left.mT if first else left, right.mT if second else right)

    return run


@operator("expand_dims")
def expand_dims(attributes: Attributes) -> Operator:
    """Return a new axis of length 1."""
    axis = int(attributes.value("axis"))
    return lambda training, data: data.unsqueeze(axis)


@operator("Concat", "concat")
def concat(attributes: Attributes) -> Operator:
    """Return arrays joined along an axis."""
    axis = int(attributes.value("dim", 1))
    return lambda training, *parts: torch.cat(parts, axis)


@operator("SliceChannel", "split")
def slice_channel(attributes: Attributes) -> Operator:
    """Return equal parts along an axis, a tuple of them."""
    count, axis = int(attributes.value("num_outputs")), int(attributes.value("axis", 1))
    squeeze = attributes.flag("squeeze_axis", False)

    def run(training: bool, data: Tensor) -> tuple[Tensor, ...]:
        parts = data.chunk(count, axis)
        return tuple(part.squeeze(axis) for part in parts) if squeeze else tuple(parts)

    return run


@operator("SwapAxis", "swapaxes")
def swap_axis(attributes: Attributes) -> Operator:
    """Return an array with two axes exchanged."""
    first, second = int(attributes.value("dim1", 0)), int(attributes.value("dim2", 0))
    return lambda training, data: data.transpose(first, second)


@operator("transpose")
def transpose(attributes: Attributes) -> Operator:
    """Return an array with its axes in another order, reversed by default."""
    axes = attributes.numbers("axes", ())
    return lambda training, data: data.permute(axes or tuple(reversed(range(data.ndim))))


@operator("slice_axis")
def slice_axis(attributes: Attributes) -> Operator:
    """Return a part along one axis."""
    axis, begin, end = int(attributes.value("axis")), int(attributes.value("begin")), attributes.value("end")

    def run(training: bool, data: Tensor) -> Tensor:
        start, stop, _ = slice(begin, end).indices(data.shape[axis])
        return data.narrow(axis, start, stop - start)

    return run


@operator("Pad", "pad")
def pad(attributes: Attributes) -> Operator:
    """Return an array with a margin around it: constant, of its edge, or reflected."""
    mode = attributes.choice("mode", ("constant", "edge", "reflect"))
    widths, number = attributes.numbers("pad_width"), float(attributes.value("constant_value", 0))
    pairs = [widths[place : place + 2] for place in range(0, len(widths), 2)]
    if mode == "constant":
        flat = [width for pair in reversed(pairs) for width in pair]
        return lambda training, data: functional.pad(data, flat, "constant", number)
    flat = [width for pair in reversed(pairs[2:]) for width in pair]
    return lambda training, data: functional.pad(data, flat, {"edge": "replicate"}.get(mode, mode))


@operator("broadcast_to")
def broadcast_to(attributes: Attributes) -> Operator:
    """Return an array repeated to a shape, where 0 keeps a length."""
    shape = attributes.numbers("shape")

    def run(training: bool, data: Tensor) -> Tensor:
        return data.expand([length or own for length, own in zip(shape, data.shape)])

    return run


@operator("_arange")
def arange(attributes: Attributes) -> Constant:
    """Return the numbers from start to stop, each repeated."""
    start, stop = float(attributes.value("start")), attributes.value("stop", None)
    step, repeat = float(attributes.value("step", 1.0)), int(attributes.value("repeat", 1))
    attributes.choice("infer_range", (False, "false"), False)
    attributes.choice("dtype", ("float32",), "float32")
    begin, end = (0.0, start) if stop is None else (start, float(stop))
    numbers = torch.arange(begin, end, step, dtype=torch.float32).repeat_interleave(repeat)
    return Constant(numbers)


@operator("Reshape", "reshape")
def reshape(attributes: Attributes) -> Operator:
    """Return another shape, written with MXNet's codes 0, -1, -2, -3 and -4."""
    shape = attributes.numbers("shape", ())
    if attributes.flag("reverse", False) or not shape:
        attributes.refuse(
            f"has shape={shape} and reverse={attributes.flag('reverse', False)}; known are shapes forwards"
        )
    return lambda training, data: data.reshape(wanted_shape(tuple(data.shape), shape))


def wanted_shape(given: tuple[int, ...], codes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that MXNet's codes make of another.

    0 copies a length, -1 takes what is left, -2 copies all lengths that are left, -3 joins two, and -4 splits one into the
    two numbers that follow it, one of which may be -1.
    """
    lengths: list[int] = []
    left, rest = list(given), list(codes)
    while rest:
        code = rest.pop(0)
        if code == -2:
            lengths += left
            left = []
        elif code == -3:
            lengths.append(left.pop(0) * left.pop(0))
        elif code == -4:
            whole, first, second = left.pop(0), rest.pop(0), rest.pop(0)
            lengths += [first if first != -1 else whole // second, second if second != -1 else whole // first]
        else:
            own = left.pop(0) if left else 1
            lengths.append(own if code == 0 else code)
    if -1 in lengths:
        known = math.prod(length for length in lengths if length != -1)
        lengths[lengths.index(-1)] = math.prod(given) // known
    return tuple(lengths)
