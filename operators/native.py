"""Rules that place the native operators of ``kernels/``, for training."""

from vargfacenet.operators.basic import TRUE, is_global_average, is_prelu
from vargfacenet.operators.library import load_library

__all__ = ["convolution", "global_mean", "load_library", "norm", "prelu", "scale"]

_NORM_DEFAULTS = {"eps": "0.001", "momentum": "0.9", "fix_gamma": "True"}  # MXNet's


def convolution(copy, node):
    """A square convolution without bias that keeps the size of the picture, or halves it."""
    attrs = node.get("attrs", {})
    if node["op"] != "Convolution" or attrs.get("no_bias") not in TRUE or len(copy.shape(node)) != 4:
        return False
    weight = copy.shape(node, 1)
    kernel, stride, pad = weight[2], attrs.get("stride", "(1, 1)"), attrs.get("pad", "(0, 0)")
    groups, outputs = int(attrs.get("num_group", "1")), weight[0]
    if weight[3] != kernel or kernel % 2 == 0 or pad != str((kernel // 2,) * 2) or stride not in ("(1, 1)", "(2, 2)"):
        return False
    if attrs.get("dilate", "(1, 1)") != "(1, 1)" or outputs == groups or copy.shape(node)[2:] == (1, 1):
        return False  # MXNet's own are better on single channels and single pixels
    x, parameter = copy.inputs(node)
    copy.set_shape(parameter, weight)
    copy.place(
        "vargfacenet_convolution",
        node["name"],
        [x, parameter],
        stride=stride[1],
        groups=str(groups),
        channels=str(outputs),
    )
    return True


def norm(copy, node):
    """BN by the batch's statistics; left to `prelu` where nothing but a PReLU takes its output.

    BN that uses its running statistics in training, or whose output is the graph's, stays MXNet's.
    """
    if not _is_norm(node) or copy.is_output(copy.turn):
        return False
    reader = copy.only_reader(copy.turn)
    if reader and is_prelu(reader) and copy.source(reader) is node:
        copy.drop()
        return True
    x, *parameters = copy.inputs(node)
    _place(copy, "vargfacenet_norm", node["name"], x, parameters, copy.shape(node)[1], **_norm_attrs(node))
    return True


def prelu(copy, node):
    """PReLU, in one with the BN before it where that was left to it."""
    if not is_prelu(node):
        return False
    (x, slope), channels = copy.inputs(node), copy.shape(node)[1]
    if x[0] is not None:
        _place(copy, "vargfacenet_prelu", node["name"], x, [slope], channels)
        return True
    before = copy.source(node)
    x, gamma, beta, *running = copy.inputs(before)
    parameters = [gamma, beta, slope, *running]
    _place(copy, "vargfacenet_norm_prelu", node["name"], x, parameters, channels, **_norm_attrs(before))
    return True


def scale(copy, node):
    """The product of pictures' channels with one weight each."""
    if node["op"] != "broadcast_mul":
        return False
    data, weight = copy.shape(node, 0), copy.shape(node, 1)
    if len(data) < 3 or data[0] < 2 or weight != data[:2] + (1,) * (len(data) - 2):
        return False
    copy.place("vargfacenet_scale", node["name"], copy.inputs(node))
    return True


def global_mean(copy, node):
    """Global average pooling."""
    if not is_global_average(node):
        return False
    copy.place("vargfacenet_mean", node["name"], copy.inputs(node))
    return True


def _is_norm(node):
    attrs = node.get("attrs", {})
    return node["op"] == "BatchNorm" and attrs.get("use_global_stats") not in TRUE and attrs.get("axis", "1") == "1"


def _norm_attrs(node):
    attrs = {**_NORM_DEFAULTS, **node.get("attrs", {})}
    fixed = "True" if attrs["fix_gamma"] in TRUE else "False"
    return {"eps": attrs["eps"], "momentum": attrs["momentum"], "fix_gamma": fixed}


def _place(copy, op, name, x, parameters, channels, **attrs):
    for parameter in parameters:
        copy.set_shape(parameter, (channels,))
    copy.place(op, name, [x, *parameters], **attrs)
