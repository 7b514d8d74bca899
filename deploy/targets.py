"""Forms of a graph that runtimes run fast, equal in result to the plain one."""

from typing import NamedTuple, Optional

import numpy as np

from vargfacenet.deploy.graph import ANY_NUMBER, Graph, ImageInput, Node
from vargfacenet.deploy.padding import pad_channels
from vargfacenet.options import unknown

BLOCK = 16  # channels that onnxruntime works on at a time where a processor has AVX-512

# OpenVINO joins groups and fuses PReLU into convolutions by itself: the plain form is the fastest there.
# InsightFace's package runs files in onnxruntime.
TARGETS = ("plain", "onnxruntime", "openvino", "insightface")


class Target(NamedTuple):
    """The runtime whose preferred form a file takes, one of `TARGETS`, and the form in which it takes images."""

    name: str = "plain"
    image: ImageInput = ANY_NUMBER


def rewrite_for(graph: Graph, target: str) -> Graph:
    """Return a copy of a graph in the form for a runtime, one of `TARGETS`; SettingError for an unknown target."""
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    graph = graph.copy()
    if target in ("onnxruntime", "insightface"):
        pad_channels(graph, block=BLOCK)
        prelu_as_convolutions(graph)
        merge_groups(graph)
    return graph


def prelu_as_convolutions(graph: Graph) -> None:
    """Replace PReLU by ``slope * x + max((1 - slope) * x, 0)``, each product a depth-wise 1x1 convolution.

    onnxruntime keeps convolutions in blocks of channels and fuses the rectifier and the sum into them; its PRelu leaves
    that layout, at each layer. The form equals PReLU where no slope is above 1; elsewhere it is ``slope * x + (1 -
    slope) * max(x, 0)``.
    """

    def rule(node: Node) -> Optional[list[Node]]:
        if node.op != "PRelu" or graph.constants[node.inputs[1]].ndim != 3:
            return None
        x, slope = node.inputs
        slopes = graph.constants[slope].reshape(-1, 1, 1, 1)
        names = f"{slope}_negative", f"{slope}_positive"
        graph.constants.update(zip(names, (slopes, (1 - slopes.astype(np.float64)).astype(np.float32))))

        def product(name: str, of: str, weight: str) -> Node:
            return Node("Conv", f"{node.name}_{name}", [of, weight], {"group": len(slopes), "kernel_shape": [1, 1]})

        scaled = product("scaled", x, names[0])
        if slopes.max() <= 1:
            lifted = product("lifted", x, names[1])
            positive = Node("Relu", f"{node.name}_positive", [lifted.name])
            return [lifted, positive, scaled, Node("Add", node.name, [scaled.name, positive.name])]
        positive = Node("Relu", f"{node.name}_positive", [x])
        lifted = product("lifted", positive.name, names[1])
        return [scaled, positive, lifted, Node("Add", node.name, [scaled.name, lifted.name])]

    graph.rewrite(rule)


def merge_groups(graph: Graph, *, block: int = BLOCK) -> None:
    """Join groups of a few channels into groups of a block, with zeros between channels of different groups.

    The processor multiplies a block of channels at once, so that the zeros cost no time; the weights of these layers
    take more space.
    """

    def rule(node: Node) -> Optional[list[Node]]:
        groups = node.attrs.get("group", 1)
        if node.op != "Conv" or groups == 1:
            return None
        weight = graph.constants[node.inputs[1]]
        outs, ins = weight.shape[0] // groups, weight.shape[1]
        joined = block // ins if block % ins == 0 else 0
        if ins == 1 or joined < 2 or groups % joined:
            return None
        name = f"{node.inputs[1]}_merged"
        graph.constants[name] = _block_diagonal(weight.reshape(-1, joined, outs, *weight.shape[1:]))
        attrs = {**node.attrs, "group": groups // joined}
        return [Node("Conv", node.name, [node.inputs[0], name, *node.inputs[2:]], attrs)]

    graph.rewrite(rule)


def _block_diagonal(weight: np.ndarray) -> np.ndarray:
    """Return joined weights: (groups, joined, outs, ins, kh, kw) -> (groups * joined * outs, joined * ins, kh, kw)."""
    groups, joined, outs, ins, *kernel = weight.shape
    merged = np.zeros((groups, joined, outs, joined, ins, *kernel), weight.dtype)
    for place in range(joined):
        merged[:, place, :, place] = weight[:, place]
    return merged.reshape(groups * joined * outs, joined * ins, *kernel)
