"""A graph between MXNet and ONNX: nodes in order, each with one output under its own name, and constants."""

import collections
import dataclasses

import numpy as np

from vargfacenet import IMAGE_SHAPE

INPUT = "data"


@dataclasses.dataclass
class Node:
    """One ONNX operator.

    Attributes
    ----------
    op, name : str
        ONNX's operator; the node's name, which is its output's too.
    inputs : list of str
        Names of nodes, of constants, or `INPUT`.
    attrs : dict
        ONNX attributes: int, float, str, or a list of int.
    """

    op: str
    name: str
    inputs: list
    attrs: dict = dataclasses.field(default_factory=dict)


class Graph:
    """Nodes in an order in which they can run.

    Attributes
    ----------
    nodes : list of Node
    constants : dict of str to array
        Weights, by name: float32, float16, int8, uint8, or bfloat16 as the uint16 of its bits.
    output : str
        The node whose output is the embedding.
    embedding_size : int
        Of its rows.
    """

    def __init__(self, nodes, constants, output, embedding_size):
        self.nodes, self.constants = list(nodes), dict(constants)
        self.output, self.embedding_size = output, embedding_size

    def readers(self):
        """Nodes that read each name (dict of str to list of Node); the graph's output counts as read by None."""
        readers = collections.defaultdict(list)
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        readers[self.output].append(None)
        return readers

    def by_name(self):
        """Nodes by their names."""
        return {node.name: node for node in self.nodes}

    def rewrite(self, rule):
        """Replaces nodes, in order.

        Parameters
        ----------
        rule : callable
            Takes a node; gives None to leave it, or the list of nodes that take its place, of which the last carries
            its name.
        """
        nodes = []
        for node in self.nodes:
            placed = rule(node)
            nodes += [node] if placed is None else placed
        self.nodes = nodes
        self.prune()

    def prune(self):
        """Drops what the output does not need."""
        wanted, kept = {self.output}, []
        for node in reversed(self.nodes):
            if node.name in wanted:
                kept.append(node)
                wanted.update(node.inputs)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in wanted}

    def copy(self):
        """A graph that can be rewritten without touching this one; the arrays are shared."""
        nodes = [Node(node.op, node.name, list(node.inputs), dict(node.attrs)) for node in self.nodes]
        return Graph(nodes, self.constants, self.output, self.embedding_size)

    def to_onnx(self, *, opset, ir_version, metadata=None, extra_outputs=()):
        """The graph as an ``onnx.ModelProto`` with any number of images in a batch.

        Parameters
        ----------
        opset, ir_version : int
            Versions of ONNX's operators and of its file format.
        metadata : dict of str to str, optional
            Properties to write into it.
        extra_outputs : sequence of str
            Nodes whose outputs are wanted too, of any shape.
        """
        from onnx import TensorProto, helper

        # Long names of tensors, each written several times, would be a tenth of a small INT8 file.
        short = {name: f"c{place}" for place, name in enumerate(self.constants)}
        short.update({node.name: f"t{place}" for place, node in enumerate(self.nodes)})
        short.update({name: name for name in (INPUT, self.output, *extra_outputs)})
        # InsightFace's package tells by names that begin with Sub and Mul that a graph scales its input itself.
        nodes = [
            helper.make_node(n.op, [short[i] for i in n.inputs], [short[n.name]], name=f"{n.op}_{n.name}", **n.attrs)
            for n in self.nodes
        ]
        constants = [_tensor(short[name], np.ascontiguousarray(value)) for name, value in self.constants.items()]
        image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *IMAGE_SHAPE])
        outputs = [helper.make_tensor_value_info(self.output, TensorProto.FLOAT, ["batch", self.embedding_size])]
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in extra_outputs]
        model = helper.make_model(
            # Constants are initializers only: runtimes take an initializer that is an input too for a changing value.
            helper.make_graph(nodes, "vargfacenet", [image], outputs, constants),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=ir_version,
            producer_name="vargfacenet",
        )
        helper.set_model_props(model, metadata or {})
        return model


def _tensor(name, value):
    from onnx import TensorProto, numpy_helper

    tensor = numpy_helper.from_array(value, name)
    if value.dtype == np.uint16:
        tensor.data_type = TensorProto.BFLOAT16
    return tensor
