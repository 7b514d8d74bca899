"""Graphs that compute what a published graph computes, on operators that can be trusted.

Two of MXNet's operators cannot, on the CPU: the stock ``LeakyReLU(act_type="prelu")`` gives wrong gradients for some
slopes, and a ``FullyConnected`` straight after a convolution or BN can meet oneDNN's own memory layout and fail
("IsMKLDNNData"). The published graphs are made of both, and checkpoints must stay so. What runs is therefore a
rewrite: the same parameters under the same names.
"""

import json

import mxnet as mx

IMAGE_SHAPE = (3, 112, 112)
_TRUE = ("True", "1")  # as MXNet writes them


def runnable(symbol, *, for_training=False, data_shape=(1, *IMAGE_SHAPE)):
    """The graph to run in the place of a published one.

    With ``r = relu(x)``, PReLU [He et al., arXiv 1502.01852, eq. 1] becomes ``slope * x + (1 - slope) * r`` for
    inference and ``r + slope * (x - r)`` for training, the products written as depth-wise 1x1 convolutions: of the
    forms that stock operators allow these are the fastest on a CPU. Each is right for both uses; in training, the
    first would send BN's gradient to MXNet's reference kernel and the mean's gradient, in the place of global average
    pooling's, is many times quicker. The input of a fully connected layer is flattened before it.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        A graph whose input is ``data``; other inputs that are no parameters are let be.
    for_training : bool
        Which of the forms to take.
    data_shape : tuple of int
        A shape of ``data`` that the graph accepts. The slopes' shapes follow from it: MXNet cannot infer them
        backwards through the rewritten form.

    Returns
    -------
    mx.sym.Symbol
        Same arguments, auxiliary states, shapes, names of the outputs, and values.
    """
    graph = json.loads(symbol.tojson())
    shapes = output_shapes(symbol, data_shape)
    rewritten = _Nodes()
    for node in graph["nodes"]:
        inputs = rewritten.inputs(node)
        name, attrs = node["name"], node.get("attrs", {})
        if node["op"] == "LeakyReLU" and attrs.get("act_type") == "prelu":
            _place_prelu(rewritten, name, *inputs, shapes[_input_name(graph, node)], for_training)
        elif (
            for_training
            and node["op"] == "Pooling"
            and attrs.get("global_pool") in _TRUE
            and attrs.get("pool_type") == "avg"
        ):
            rewritten.place("mean", name, inputs, axis="(2, 3)", keepdims="True")
        elif node["op"] == "FullyConnected" and attrs.get("flatten", "True") in _TRUE:
            flat = rewritten.add("Flatten", f"{name}_flat", inputs[:1])
            rewritten.place(node["op"], name, [flat, *inputs[1:]], **attrs)
        else:
            rewritten.place(node["op"], name, inputs, **attrs)
    return mx.sym.load_json(rewritten.to_json(graph))


def output_shapes(symbol, data_shape):
    """Shape of the first output of every node, parameters included, by the node's name (dict of str to tuple)."""
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape_partial(data=data_shape)
    named = zip(internals.list_outputs(), shapes)
    return {name[: -len("_output")] if name.endswith("_output") else name: tuple(shape) for name, shape in named}


def _place_prelu(rewritten, name, x, slope, shape, for_training):
    """Places PReLU of an `x` of `shape`, the slope one per channel (axis 1)."""
    channels = shape[1]
    rewritten.attrs(slope)["__shape__"] = str((channels,))
    positive = rewritten.add("Activation", f"{name}_positive", [x], act_type="relu")

    def scaled(part, entry, slopes):
        if len(shape) != 4:
            row = rewritten.add("Reshape", f"{part}_row", [slopes], shape=str((1, -1) + (1,) * (len(shape) - 2)))
            return rewritten.add("broadcast_mul", part, [entry, row])
        kernel = rewritten.add("Reshape", f"{part}_kernel", [slopes], shape="(-1, 1, 1, 1)")
        size = {"kernel": "(1, 1)", "num_filter": str(channels), "num_group": str(channels), "no_bias": "True"}
        return rewritten.add("Convolution", part, [entry, kernel], **size)

    if for_training:
        negative = rewritten.add("elemwise_sub", f"{name}_negative", [x, positive])
        terms = [positive, scaled(f"{name}_scaled", negative, slope)]
    else:
        rest = rewritten.add("_rminus_scalar", f"{name}_rest", [slope], scalar="1")
        terms = [scaled(f"{name}_scaled", x, slope), scaled(f"{name}_lifted", positive, rest)]
    rewritten.place("elemwise_add", name, terms)


def _input_name(graph, node):
    return graph["nodes"][node["inputs"][0][0]]["name"]


class _Nodes:
    """The nodes of a graph being copied, with what each node of the old one has become."""

    def __init__(self):
        self.nodes = []
        self.places = []  # old index -> new index

    def inputs(self, node):
        return [[self.places[source], *rest] for source, *rest in node["inputs"]]

    def add(self, op, name, inputs, **attrs):
        """Adds a node that the old graph lacks, and gives the entry that names its output."""
        self.nodes.append({"op": op, "name": name, "attrs": attrs, "inputs": inputs})
        return [len(self.nodes) - 1, 0, 0]

    def place(self, op, name, inputs, **attrs):
        """Adds what the next node of the old graph has become."""
        self.places.append(self.add(op, name, inputs, **attrs)[0])

    def name(self, entry):
        return self.nodes[entry[0]]["name"]

    def attrs(self, entry):
        return self.nodes[entry[0]]["attrs"]

    def to_json(self, graph):
        return json.dumps(
            {
                **graph,
                "nodes": self.nodes,
                "arg_nodes": [index for index, node in enumerate(self.nodes) if node["op"] == "null"],
                "heads": [[self.places[source], *rest] for source, *rest in graph["heads"]],
                # MXNet counts these row pointers anew when it reads a graph.
                "node_row_ptr": list(range(len(self.nodes) + 1)),
            }
        )
