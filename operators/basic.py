"""Rewriting rules that need only MXNet's operators: for PReLU, global averages, flat inputs and concatenation.

A rule takes the graph copy and one of its old nodes, and returns whether it has placed that node.
"""

from collections.abc import Sequence

from vargfacenet.operators.nodes import Copy, Entry, Node

TRUE = ("True", "1")  # as MXNet writes it
BLOCK = 16  # the largest block of channels in a memory layout of oneDNN


def prelu_for_inference(copy: Copy, node: Node) -> bool:
    """PReLU [He et al., arXiv 1502.01852, eq. 1] as ``slope * x + (1 - slope) * max(x, 0)``.

    The products are depth-wise 1x1 convolutions. Of the forms that MXNet's operators allow, this one and that of
    `prelu_for_training` are the fastest on a CPU, each for its purpose.
    """
    if not is_prelu(node):
        return False
    name, x, shape, slope = node["name"], copy.inputs(node)[0], copy.shape(node), channel_slopes(copy, node)
    positive = copy.add("Activation", f"{name}_positive", [x], act_type="relu")
    rest = copy.add("_rminus_scalar", f"{name}_rest", [slope], scalar="1")
    terms = [_scaled(copy, f"{name}_scaled", x, slope, shape), _scaled(copy, f"{name}_lifted", positive, rest, shape)]
    copy.place("elemwise_add", name, terms)
    return True


def prelu_for_training(copy: Copy, node: Node) -> bool:
    """PReLU as ``r + slope * (x - r)`` with ``r = max(x, 0)``.

    In training, the form of `prelu_for_inference` would make MXNet compute BN's gradient by its slow reference kernel.
    """
    if not is_prelu(node):
        return False
    name, x, shape, slope = node["name"], copy.inputs(node)[0], copy.shape(node), channel_slopes(copy, node)
    positive = copy.add("Activation", f"{name}_positive", [x], act_type="relu")
    negative = copy.add("elemwise_sub", f"{name}_negative", [x, positive])
    copy.place("elemwise_add", name, [positive, _scaled(copy, f"{name}_scaled", negative, slope, shape)])
    return True


def global_mean(copy: Copy, node: Node) -> bool:
    """Global average pooling as a mean over the axes, whose gradient is many times faster."""
    if not is_global_average(node):
        return False
    copy.place("mean", node["name"], copy.inputs(node), axis="(2, 3)", keepdims="True")
    return True


def flat_input(copy: Copy, node: Node) -> bool:
    """Flatten the input of a fully connected layer before it, to leave oneDNN's own memory layout."""
    attrs = node.get("attrs", {})
    if node["op"] != "FullyConnected" or attrs.get("flatten", "True") not in TRUE:
        return False
    x, *parameters = copy.inputs(node)
    flat = copy.add("Flatten", f"{node['name']}_flat", [x])
    copy.place(node["op"], node["name"], [flat, *parameters], **attrs)
    return True


def flat_concat(copy: Copy, node: Node) -> bool:
    """Concatenate channels as flat rows where oneDNN's gradient fails ("could not construct a sub-memory").

    Its memory layouts hold channels in blocks, and a part that begins inside a block cannot be taken out.
    """
    if node["op"] != "Concat" or node["attrs"].get("dim", "1") != "1" or len(copy.shape(node)) != 4:
        return False
    if not any(copy.shape(node, place)[1] % BLOCK for place in range(len(node["inputs"]))):
        return False
    name, height = node["name"], copy.shape(node)[2]
    flat = [
        copy.add("Reshape", f"{name}_flat{place}", [entry], shape="(0, 0, -1)")
        for place, entry in enumerate(copy.inputs(node))
    ]
    joined = copy.add("Concat", f"{name}_flat", flat, dim="1", num_args=str(len(flat)))
    copy.place("Reshape", name, [joined], shape=str((0, 0, height, -1)))
    return True


def is_prelu(node: Node) -> bool:
    """Return whether a node is a PReLU."""
    return node["op"] == "LeakyReLU" and node["attrs"].get("act_type") == "prelu"


def channel_slopes(copy: Copy, node: Node) -> Entry:
    """Return the entry of a PReLU's slopes, one per channel, also where the graph has one slope for all channels."""
    slope, shape, channels = copy.inputs(node)[1], copy.shape(node, 1), copy.shape(node)[1:2]
    copy.set_shape(slope, shape)
    if shape == channels:
        return slope
    return copy.add("broadcast_to", f"{node['name']}_slopes", [slope], shape=str(channels))


def is_global_average(node: Node) -> bool:
    """Return whether a node is a global average pooling."""
    attrs = node.get("attrs", {})
    return node["op"] == "Pooling" and attrs.get("global_pool") in TRUE and attrs.get("pool_type") == "avg"


def _scaled(copy: Copy, name: str, x: Entry, slopes: Entry, shape: Sequence[int]) -> Entry:
    """Multiply `x` of `shape` by one slope per channel (axis 1)."""
    if len(shape) != 4:
        row = copy.add("Reshape", f"{name}_row", [slopes], shape=str((1, -1) + (1,) * (len(shape) - 2)))
        return copy.add("broadcast_mul", name, [x, row])
    kernel = copy.add("Reshape", f"{name}_kernel", [slopes], shape="(-1, 1, 1, 1)")
    channels = str(shape[1])
    size = {"kernel": "(1, 1)", "num_filter": channels, "num_group": channels, "no_bias": "True"}
    return copy.add("Convolution", name, [x, kernel], **size)
