"""Weights in two bytes: half precision or bfloat16 in the file, float32 wherever a runtime wants it."""

import numpy as np

from vargfacenet.deploy.graph import Node

PRECISIONS = ("float32", "fp16", "bf16", "int8")
FLOAT = 1  # ONNX's number of float32


def halve(graph, precision):
    """The graph with the weights of convolutions and products in two bytes each, and a Cast before their use.

    A runtime casts them once, as it reads the file. ``bf16`` keeps float32's range with 8 digits of binary precision, in
    which processors with AVX512-BF16 or AMX multiply; ``fp16`` has 11.

    Parameters
    ----------
    graph : Graph
        In float32; it is left alone.
    precision : str
        ``fp16`` or ``bf16``.
    """
    graph = graph.copy()
    convert = {"fp16": np.float16, "bf16": to_bfloat16}[precision]

    def rule(node):
        if node.op not in ("Conv", "Gemm"):
            return None
        x, weight, *bias = node.inputs
        short = f"{weight}_{precision}"
        graph.constants[short] = convert(graph.constants[weight])
        cast = Node("Cast", f"{node.name}_weight_float", [short], {"to": FLOAT})
        return [cast, Node(node.op, node.name, [x, cast.name, *bias], node.attrs)]

    graph.rewrite(rule)
    return graph


def to_bfloat16(values):
    """Float32 rounded to bfloat16, to even, as its upper 16 bits (uint16)."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
