"""A graph between MXNet and ONNX: nodes in order, each with one output under its own name, and constants."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vargfacenet import IMAGE_SHAPE

if TYPE_CHECKING:
    import onnx

INPUT = "data"
_FLOAT = 1  # the number of float32 in ONNX
ON_TOKENS = "_transposed"  # ends the names of the weights (in, out) that are multiplied with tokens


class ImageInput(NamedTuple):
    """The form in which a file takes images.

    ``layout`` is NCHW or NHWC, ``dtype`` float32 or uint8; ``batch`` is a fixed number of images, None for any.
    """

    layout: str = "NCHW"
    dtype: str = "float32"
    batch: int | None = None

    @property
    def sides(self) -> tuple[int, ...]:
        """Shape of an image."""
        channels, *sides = IMAGE_SHAPE
        return (channels, *sides) if self.layout == "NCHW" else (*sides, channels)


ANY_NUMBER = ImageInput()  # float32 NCHW, any number of images: the form of graphs


@dataclasses.dataclass
class Node:
    """One ONNX operator.

    ``op`` is the name of the operator in ONNX; ``name`` names both the node and its output. ``inputs`` are names of
    nodes or constants, or `INPUT`. ``attrs`` are ONNX attributes: int, float, str, or a list of int.
    """

    op: str
    name: str
    inputs: list[str]
    attrs: dict[str, Any] = dataclasses.field(default_factory=dict)


class Graph:
    """Nodes in an order in which they can run.

    ``constants`` are weights by name: float32, float16, int8, uint8, or bfloat16 as the uint16 of its bits. ``output``
    names the node whose output is the embedding.
    """

    def __init__(
        self, nodes: Iterable[Node], constants: Mapping[str, np.ndarray], output: str, embedding_size: int
    ) -> None:
        self.nodes, self.constants = list(nodes), dict(constants)
        self.output, self.embedding_size = output, embedding_size

    def readers(self) -> Mapping[str, list[Node | None]]:
        """Return the nodes that read each name; the graph's output is read by None."""
        readers: collections.defaultdict[str, list[Node | None]] = collections.defaultdict(list)
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        readers[self.output].append(None)
        return readers

    def layers(self) -> dict[str, int]:
        """Return the axis of output channels in the weight of each convolution and linear layer, by the layer's name."""
        found = {}
        for node in self.nodes:
            if node.op in ("Conv", "Gemm"):
                found[node.name] = 0
            elif node.op == "MatMul" and node.inputs[1] in self.constants and node.inputs[1].endswith(ON_TOKENS):
                found[node.name] = 1
        return found

    def by_name(self) -> dict[str, Node]:
        """Return the nodes by their names."""
        return {node.name: node for node in self.nodes}

    def rewrite(self, rule: Callable[[Node], list[Node] | None]) -> None:
        """Replace nodes, in order.

        `rule` takes a node and returns None to keep it, or the nodes that replace it; the last of them carries its
        name.
        """
        nodes: list[Node] = []
        for node in self.nodes:
            placed = rule(node)
            nodes += [node] if placed is None else placed
        self.nodes = nodes
        self.prune()

    def prune(self) -> None:
        """Remove nodes and constants that the output does not need."""
        wanted, kept = {self.output}, []
        for node in reversed(self.nodes):
            if node.name in wanted:
                kept.append(node)
                wanted.update(node.inputs)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in wanted}

    def copy(self) -> Graph:
        """Return a graph that can be rewritten without changing this one; the arrays are shared."""
        nodes = [Node(node.op, node.name, list(node.inputs), dict(node.attrs)) for node in self.nodes]
        return Graph(nodes, self.constants, self.output, self.embedding_size)

    def to_onnx(
        self,
        *,
        opset: int,
        ir_version: int,
        metadata: dict[str, str] | None = None,
        extra_outputs: Sequence[str] = (),
        image: ImageInput = ANY_NUMBER,
    ) -> onnx.ModelProto:
        """Return the graph as an ONNX model that takes images in the form `image`; this graph itself takes the default one.

        `opset` and `ir_version` are the versions of ONNX's operators and of its file format, `metadata` are properties
        of the model, and `extra_outputs` are nodes whose outputs it gives too, of any shape.
        """
        from onnx import TensorProto, helper  # optional

        taken, name = _take(image)
        all_nodes = taken + [
            dataclasses.replace(node, inputs=[name if one == INPUT else one for one in node.inputs])
            for node in self.nodes
        ]
        # Long names of tensors, each written several times, would make a tenth of a small INT8 file.
        short = {name: f"c{place}" for place, name in enumerate(self.constants)}
        short.update({node.name: f"t{place}" for place, node in enumerate(all_nodes)})
        short.update({name: name for name in (INPUT, self.output, *extra_outputs)})
        # InsightFace's package recognises a graph that scales its input by names that begin with Sub and Mul.
        nodes = [
            helper.make_node(n.op, [short[i] for i in n.inputs], [short[n.name]], name=f"{n.op}_{n.name}", **n.attrs)
            for n in all_nodes
        ]
        constants = [_tensor(short[name], np.ascontiguousarray(value)) for name, value in self.constants.items()]
        kind, batch = TensorProto.UINT8 if image.dtype == "uint8" else TensorProto.FLOAT, image.batch or "batch"
        images = helper.make_tensor_value_info(INPUT, kind, [batch, *image.sides])
        outputs = [helper.make_tensor_value_info(self.output, TensorProto.FLOAT, [batch, self.embedding_size])]
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in extra_outputs]
        model = helper.make_model(
            # Constants are initializers only: runtimes treat an initializer that is also an input as a variable.
            helper.make_graph(nodes, "vargfacenet", [images], outputs, constants),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=ir_version,
            producer_name="vargfacenet",
        )
        helper.set_model_props(model, metadata or {})
        return model


def _take(image: ImageInput) -> tuple[list[Node], str]:
    """Return the nodes that bring images to the default form, and the name of their result."""
    nodes, name = [], INPUT
    if image.layout == "NHWC":
        nodes.append(Node("Transpose", "image_planes", [name], {"perm": [0, 3, 1, 2]}))  # of bytes where it takes them
        name = nodes[-1].name
    if image.dtype == "uint8":
        nodes.append(Node("Cast", "image_float", [name], {"to": _FLOAT}))
        name = nodes[-1].name
    return nodes, name


def _tensor(name: str, value: np.ndarray) -> onnx.TensorProto:
    from onnx import TensorProto, numpy_helper  # optional

    tensor = numpy_helper.from_array(value, name)
    if value.dtype == np.uint16:
        tensor.data_type = TensorProto.BFLOAT16
    return tensor
