"""Rewriting rules that need only MXNet's operators: for PReLU, averages, flat inputs, concatenation, odd channels, scales.

A rule takes the graph copy and one of its old nodes, and returns whether it has placed that node.
"""

from collections.abc import Sequence

from vargfacenet.operators.nodes import Copy, Entry, Node

TRUE = ("True", "1")  # as MXNet writes it
BLOCK = 16  # the largest block of channels in a memory layout of oneDNN
HALF_BLOCK = 8


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


def whole_blocks(copy: Copy, node: Node) -> bool:
    """Depth-wise convolution of a number of channels that is not whole blocks, with channels of zero weights added.

    oneDNN computes it channel by channel otherwise, several times slower, and its gradient likewise.
    """
    if node["op"] != "Convolution" or len(copy.shape(node)) != 4:
        return False
    attrs, name, channels = node["attrs"], node["name"], copy.shape(node)[1]
    depthwise = int(attrs.get("num_group", "1")) == int(attrs["num_filter"]) == channels
    block = BLOCK if channels >= HALF_BLOCK else HALF_BLOCK
    added = -channels % block
    # The added channels are copies of others.
    if not depthwise or channels % HALF_BLOCK == 0 or added > channels:
        return False
    height = copy.shape(node)[2]
    x, *parameters = copy.inputs(node)
    flat = copy.add("Reshape", f"{name}_rows", [x], shape="(0, 0, -1)")
    first = copy.add("slice_axis", f"{name}_first", [flat], axis="1", begin="0", end=str(added))
    constant = copy.add("BlockGrad", f"{name}_added", [first])
    joined = copy.add("Concat", f"{name}_joined", [flat, constant], dim="1", num_args="2")
    image = copy.add("Reshape", f"{name}_image", [joined], shape=str((0, 0, height, -1)))
    whole = []
    for place, parameter in enumerate(parameters):
        shape = copy.shape(node, place + 1)
        copy.set_shape(parameter, shape)
        label = f"{name}_parameter{place}"
        rows = copy.add("Reshape", f"{label}_rows", [parameter], shape=str((1, 1, channels, -1)))
        width = str((0, 0, 0, 0, 0, added, 0, 0))
        longer = copy.add("Pad", f"{label}_pad", [rows], mode="constant", pad_width=width, constant_value="0")
        whole.append(copy.add("Reshape", label, [longer], shape=str((channels + added, *shape[1:]))))
    count = str(channels + added)
    size = {**attrs, "num_filter": count, "num_group": count}
    convolved = copy.add("Convolution", f"{name}_whole", [image, *whole], **size)
    copy.place("slice_axis", name, [convolved], axis="1", begin="0", end=str(channels))
    return True


def scaled_linear(copy: Copy, node: Node) -> bool:
    """Product of a linear layer's output and one factor per channel, as a linear layer of scaled weights.

    The gradient of the factors is then a sum over the weights instead of one over all tokens, which MXNet is slow at.
    """
    if node["op"] == "FullyConnected":
        reader = copy.only_reader(copy.turn)
        if not (reader and copy.source(reader) is node and _scales_channels(copy, reader)):
            return False
        copy.drop()
        return True
    if not _scales_channels(copy, node) or copy.inputs(node)[0][0] is not None:
        return False
    layer, name, factors = copy.source(node), node["name"], copy.inputs(node)[1]
    x, *parameters = copy.inputs(layer)
    scaled = []
    for place, parameter in enumerate(parameters):
        shape = copy.shape(layer, place + 1)
        copy.set_shape(parameter, shape)
        column = copy.add("Reshape", f"{name}_factors{place}", [factors], shape=str((-1, 1)[: len(shape)]))
        scaled.append(copy.add("broadcast_mul", f"{name}_parameter{place}", [parameter, column]))
    copy.place("FullyConnected", name, [x, *scaled], **layer["attrs"])
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


def _scales_channels(copy: Copy, node: Node) -> bool:
    """Return whether a node multiplies a linear layer's output on tokens by one factor per channel."""
    if node["op"] != "broadcast_mul":
        return False
    layer, data, factors = copy.source(node), copy.shape(node), copy.shape(node, 1)
    on_tokens = layer["op"] == "FullyConnected" and layer["attrs"].get("flatten", "True") not in TRUE
    return on_tokens and factors == (1,) * (len(data) - 1) + data[-1:]


def _scaled(copy: Copy, name: str, x: Entry, slopes: Entry, shape: Sequence[int]) -> Entry:
    """Multiply `x` of `shape` by one slope per channel (axis 1)."""
    if len(shape) != 4:
        row = copy.add("Reshape", f"{name}_row", [slopes], shape=str((1, -1) + (1,) * (len(shape) - 2)))
        return copy.add("broadcast_mul", name, [x, row])
    kernel = copy.add("Reshape", f"{name}_kernel", [slopes], shape="(-1, 1, 1, 1)")
    channels = str(shape[1])
    size = {"kernel": "(1, 1)", "num_filter": channels, "num_group": channels, "no_bias": "True"}
    return copy.add("Convolution", name, [x, kernel], **size)
