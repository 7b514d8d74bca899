"""What a network costs: parameters, multiply-adds, and FLOPs by the rule of the 2019 challenge."""

import collections
import json

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import output_shapes

Layer = collections.namedtuple("Layer", "name operator shape parameters flops multiply_adds")
Layer.__doc__ = "One operator: its output shape without the batch, trainable parameters, FLOPs and multiply-adds."

Complexity = collections.namedtuple("Complexity", "layers parameters flops multiply_adds bytes")
Complexity.__doc__ = "Layers and their totals; bytes are those of the float32 parameters and running statistics."


def complexity(symbol, *, data_shape=(1, *IMAGE_SHAPE)):
    """Counts a graph.

    FLOPs follow the Lightweight Face Recognition Challenge (2019): a convolution counts ``2 * c_in * kh * kw`` a
    group's share of output, less one where it has no bias, cut to an integer per layer; a fully connected layer
    ``2 * n_in * n_out``, less ``n_out`` without bias; every other operator nothing. The challenge had no linear layers
    on tokens (``flatten=False``): such a layer counts as a 1x1 convolution with a position for each token.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        A graph whose only input besides parameters is ``data``.
    data_shape : tuple of int
        Shape of ``data``; the batch should be 1.

    Returns
    -------
    Complexity
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


def _cost(op, attrs, source, out):
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


def _numbers(text):
    return [int(number) for number in text.strip("()[]").split(",") if number.strip()]
