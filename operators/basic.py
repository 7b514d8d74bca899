"""Rules that need nothing but MXNet: PReLU and global averages of other operators, and flat inputs and parts."""

TRUE = ("True", "1")  # as MXNet writes them
BLOCK = 16  # the most channels that a memory layout of oneDNN holds together


def prelu_for_inference(copy, node):
    """PReLU [He et al., arXiv 1502.01852, eq. 1] as ``slope * x + (1 - slope) * max(x, 0)``.

    The products are written as depth-wise 1x1 convolutions: of the forms that MXNet's operators allow, this and that
    of `prelu_for_training` are the fastest on a CPU, each for its use.
    """
    if not is_prelu(node):
        return False
    name, x, shape, slope = node["name"], copy.inputs(node)[0], copy.shape(node), channel_slopes(copy, node)
    positive = copy.add("Activation", f"{name}_positive", [x], act_type="relu")
    rest = copy.add("_rminus_scalar", f"{name}_rest", [slope], scalar="1")
    terms = [_scaled(copy, f"{name}_scaled", x, slope, shape), _scaled(copy, f"{name}_lifted", positive, rest, shape)]
    copy.place("elemwise_add", name, terms)
    return True


def prelu_for_training(copy, node):
    """PReLU as ``r + slope * (x - r)`` with ``r = max(x, 0)``.

    In training the form of `prelu_for_inference` would send BN's gradient to MXNet's reference kernel.
    """
    if not is_prelu(node):
        return False
    name, x, shape, slope = node["name"], copy.inputs(node)[0], copy.shape(node), channel_slopes(copy, node)
    positive = copy.add("Activation", f"{name}_positive", [x], act_type="relu")
    negative = copy.add("elemwise_sub", f"{name}_negative", [x, positive])
    copy.place("elemwise_add", name, [positive, _scaled(copy, f"{name}_scaled", negative, slope, shape)])
    return True


def global_mean(copy, node):
    """Global average pooling as a mean over the axes, whose gradient is many times quicker."""
    if not is_global_average(node):
        return False
    copy.place("mean", node["name"], copy.inputs(node), axis="(2, 3)", keepdims="True")
    return True


def flat_input(copy, node):
    """The input of a fully connected layer is flattened before it, out of oneDNN's own memory layout."""
    attrs = node.get("attrs", {})
    if node["op"] != "FullyConnected" or attrs.get("flatten", "True") not in TRUE:
        return False
    x, *parameters = copy.inputs(node)
    flat = copy.add("Flatten", f"{node['name']}_flat", [x])
    copy.place(node["op"], node["name"], [flat, *parameters], **attrs)
    return True


def flat_concat(copy, node):
    """Concatenate channels as rows of numbers, where oneDNN's gradient of it fails ("could not construct a sub-memory").

    Its own memory layouts hold channels in blocks, and a part that begins inside of one cannot be taken out.
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


def is_prelu(node):
    return node["op"] == "LeakyReLU" and node["attrs"].get("act_type") == "prelu"


def channel_slopes(copy, node):
    """Return the entry of a PReLU's slopes, one for each channel, also where the graph has one for all of them."""
    slope, shape, channels = copy.inputs(node)[1], copy.shape(node, 1), copy.shape(node)[1:2]
    copy.set_shape(slope, shape)
    if shape == channels:
        return slope
    return copy.add("broadcast_to", f"{node['name']}_slopes", [slope], shape=str(channels))


def is_global_average(node):
    attrs = node.get("attrs", {})
    return node["op"] == "Pooling" and attrs.get("global_pool") in TRUE and attrs.get("pool_type") == "avg"


def _scaled(copy, name, x, slopes, shape):
    """`x` of `shape` times one slope per channel (axis 1)."""
    if len(shape) != 4:
        row = copy.add("Reshape", f"{name}_row", [slopes], shape=str((1, -1) + (1,) * (len(shape) - 2)))
        return copy.add("broadcast_mul", name, [x, row])
    kernel = copy.add("Reshape", f"{name}_kernel", [slopes], shape="(-1, 1, 1, 1)")
    channels = str(shape[1])
    size = {"kernel": "(1, 1)", "num_filter": channels, "num_group": channels, "no_bias": "True"}
    return copy.add("Convolution", name, [x, kernel], **size)
