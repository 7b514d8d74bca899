"""Weights stored in two bytes, as half precision or bfloat16."""

from typing import Optional

import numpy as np

from vargfacenet.deploy.graph import Graph, Node

PRECISIONS = ("float32", "fp16", "bf16", "int8")
FLOAT = 1  # the number of float32 in ONNX


def halve(graph: Graph, precision: str) -> Graph:
    """Return a copy of a float32 graph with the weights of convolutions and products in two bytes, cast to float32.

    A runtime casts them once, when it reads the file. ``bf16`` keeps float32's range with 8 bits of precision, in which
    processors with AVX512-BF16 or AMX multiply; ``fp16`` has 11.
    """
    graph = graph.copy()
    layers = graph.layers()

    def rule(node: Node) -> Optional[list[Node]]:
        if node.name not in layers:
            return None
        x, weight, *bias = node.inputs
        short = f"{weight}_{precision}"
        values = graph.constants[weight]
        graph.constants[short] = to_bfloat16(values) if precision == "bf16" else values.astype(np.float16)
        cast = Node("Cast", f"{node.name}_weight_float", [short], {"to": FLOAT})
        return [cast, Node(node.op, node.name, [x, cast.name, *bias], node.attrs)]

    graph.rewrite(rule)
    return graph


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 to bfloat16, ties to even, and return its 16 bits as uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
