"""Channels rounded up to whole blocks, with zeros in the new ones, from the input of a graph to its embedding."""

from collections.abc import Callable
from typing import Optional

import numpy as np

from vargfacenet.deploy.graph import INPUT, Graph, Node

_Channels = tuple[int, int]  # number before and after
_Constants = dict[str, np.ndarray]

_KEEPS_CHANNELS = (
    *("Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Flatten"),
    *("Add", "Sub", "Mul", "Div", "Sum", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"),
)


def pad_channels(graph: Graph, *, block: int) -> bool:
    """Round the channels of images in a graph up to a multiple of `block`; return True where that was possible.

    The weights that read new channels are zero, so that the result is the same. Runtimes that work on blocks of
    channels fall back to slower code where the last block is not full, as with 40 channels. A graph stays unchanged
    where an operator is not known to keep channels apart.
    """
    channels = {INPUT: (3, 3)}
    constants = dict(graph.constants)
    for node in graph.nodes:
        found = _RULES.get(node.op, _keep)(node, constants, channels, block)
        if found is None:
            return False
        channels[node.name] = found
    for node in graph.nodes:
        if node.op == "Conv" and node.attrs.get("group", 1) > 1:
            node.attrs["group"] = channels[node.inputs[0]][1] // constants[node.inputs[1]].shape[1]
    graph.constants = constants
    return True


def _pad(value: np.ndarray, axis: int, size: int, fill: float = 0.0) -> np.ndarray:
    """Return the array with its `axis` lengthened to `size` by `fill`."""
    widths = [(0, size - length if place == axis else 0) for place, length in enumerate(value.shape)]
    return np.pad(value, widths, constant_values=fill)


def _convolution(node: Node, constants: _Constants, channels: dict[str, _Channels], block: int) -> Optional[_Channels]:
    has = channels[node.inputs[0]][1]
    weight, groups = constants[node.inputs[1]], node.attrs.get("group", 1)
    outs, ins = weight.shape[:2]
    if groups == 1:
        wanted = -(-outs // block) * block
        weight = _pad(weight, 1, has)
    else:
        if has % ins:
            return None
        wanted = has // ins * (outs // groups)
    constants[node.inputs[1]] = _pad(weight, 0, wanted)
    for bias in node.inputs[2:]:
        constants[bias] = _pad(constants[bias], 0, wanted)
    return outs, wanted


def _slopes(node: Node, constants: _Constants, channels: dict[str, _Channels], block: int) -> Optional[_Channels]:
    found = channels[node.inputs[0]]
    constants[node.inputs[1]] = _pad(constants[node.inputs[1]], 0, found[1])
    return found


def _norm(node: Node, constants: _Constants, channels: dict[str, _Channels], block: int) -> Optional[_Channels]:
    found = channels[node.inputs[0]]
    for name, fill in zip(node.inputs[1:], (0.0, 0.0, 0.0, 1.0)):
        constants[name] = _pad(constants[name], 0, found[1], fill)
    return found


def _product(node: Node, constants: _Constants, channels: dict[str, _Channels], block: int) -> Optional[_Channels]:
    """Pad a product of images flattened channel by channel: the columns of new channels come last."""
    had, has = channels[node.inputs[0]]
    weight = constants[node.inputs[1]]
    constants[node.inputs[1]] = _pad(weight, 1, weight.shape[1] // had * has)
    return len(weight), len(weight)


def _keep(node: Node, constants: _Constants, channels: dict[str, _Channels], block: int) -> Optional[_Channels]:
    sources = {channels[name] for name in node.inputs if name in channels}
    scalars = all(constants[name].size == 1 for name in node.inputs if name not in channels)
    return sources.pop() if node.op in _KEEPS_CHANNELS and scalars and len(sources) == 1 else None


_Rule = Callable[[Node, _Constants, dict[str, _Channels], int], Optional[_Channels]]
_RULES: dict[str, _Rule] = {"Conv": _convolution, "PRelu": _slopes, "BatchNormalization": _norm, "Gemm": _product}
