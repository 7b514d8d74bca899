"""Count a network's parameters, multiply-adds, and FLOPs by the rule of the 2019 challenge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import output_shapes


class Layer(NamedTuple):
    """One operator: its output shape without the batch, trainable parameters, FLOPs and multiply-adds."""

    name: str
    operator: str
    shape: tuple[int, ...]
    parameters: int
    flops: int
    multiply_adds: int


class Complexity(NamedTuple):
    """Layers and their totals; `bytes` is the size of the parameters and running statistics in float32."""

    layers: list[Layer]
    parameters: int
    flops: int
    multiply_adds: int
    bytes: int


def complexity(symbol: mx.sym.Symbol, *, data_shape: Sequence[int] = (1, *IMAGE_SHAPE)) -> Complexity:
    """Count the operations and parameters of a graph whose only input besides parameters is ``data``.

    FLOPs follow the Lightweight Face Recognition Challenge (2019). A convolution counts ``2 * c_in * kh * kw`` for each
    number of its output, less one without bias, divided by the groups and cut to an integer per layer. A fully connected
    layer counts ``2 * n_in * n_out``, less ``n_out`` without bias. All other operators count nothing. The challenge had no
    linear layers on tokens (``flatten=False``): such a layer counts as a 1x1 convolution with one position per token.

    The batch in `data_shape` should be 1.
    """
    nodes = json.loads(symbol.tojson())["nodes"]
    shapes = output_shapes(symbol, data_shape)
    states = set(symbol.list_auxiliary_states())
    layers = []
    for node in nodes:
        if node["op"] == "null":
            continue
        inputs = [nodes[source] for source, *_ in node["inputs"]]
        parameters = [
            n["name"] for n in inputs if n["op"] == "null" and n["name"] not in states and n["name"] != "data"
        ]
        out, source = shapes[node["name"]], shapes[inputs[0]["name"]] if inputs else ()
        flops, multiply_adds = _cost(node["op"], node.get("attrs", {}), source, out)
        count = sum(int(np.prod(shapes[name])) for name in parameters)
        layers.append(Layer(node["name"], node["op"], out[1:], count, flops, multiply_adds))
    total = {
        field: sum(getattr(layer, field) for layer in layers) for field in ("parameters", "flops", "multiply_adds")
    }
    state_count = sum(int(np.prod(shapes[name])) for name in states)
    return Complexity(layers, bytes=4 * (total["parameters"] + state_count), **total)


def _cost(op: str, attrs: Mapping[str, str], source: Sequence[int], out: Sequence[int]) -> tuple[int, int]:
    """Return FLOPs and multiply-adds of an operator from the shapes of its input and output."""
    if op == "Convolution":
        kernel = _numbers(attrs["kernel"])
        groups = int(attrs.get("num_group", "1"))
        bias = attrs.get("no_bias", "False") not in ("True", "1")
        products = source[1] * int(np.prod(kernel))
        positions = int(np.prod(out[1:]))
        return int((2 * products - (not bias)) * positions / groups), products * positions // groups
    if op == "FullyConnected":
        bias = attrs.get("no_bias", "False") not in ("True", "1")
        if attrs.get("flatten", "True") in ("True", "1"):
            n_in, outputs = int(np.prod(source[1:])), out[1]
        else:
            n_in, outputs = source[-1], int(np.prod(out[1:]))
        return (2 * n_in - (not bias)) * outputs, n_in * outputs
    return 0, 0


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.strip("()[]").split(",") if number.strip()]
