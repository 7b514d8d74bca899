"""Rewriting rules that place the native operators of ``kernels/``; `vargfacenet.operators.basic` describes rules."""

from collections.abc import Sequence

from vargfacenet.operators.basic import TRUE, channel_slopes, is_global_average, is_prelu
from vargfacenet.operators.forms import Shape, choose_forms
from vargfacenet.operators.library import load_library
from vargfacenet.operators.nodes import Copy, Entry, Node

__all__ = [
    "convolution",
    "convolution_for_inference",
    "convolution_shapes",
    "global_mean",
    "join",
    "load_library",
    "norm",
    "prelu",
    "resize",
    "scale",
    "slower_convolutions",
]

_NORM_DEFAULTS = {"eps": "0.001", "momentum": "0.9", "fix_gamma": "True"}  # MXNet's


def convolution(copy: Copy, node: Node) -> bool:
    """Square convolution without bias that keeps the size of the image or halves it."""
    if not _is_convolution(copy, node) or copy.shape(node, 1)[0] == _groups(node):
        return False  # MXNet's own gradients are faster on single channels
    _place_convolution(copy, "vargfacenet_convolution", node, node["name"], [])
    return True


def convolution_shapes(copy: Copy) -> dict[str, Shape]:
    """Return the convolutions that `convolution` may place, by name."""
    shapes = {node["name"]: _shape_of(copy, node) for node in copy.old if _is_convolution(copy, node)}
    return {name: shape for name, shape in shapes.items() if shape.outputs != shape.groups}


def slower_convolutions(copy: Copy) -> set[str]:
    """Return the names of the convolutions that MXNet's own operator computes faster than `convolution`'s here."""
    shapes = convolution_shapes(copy)
    forms = choose_forms(shapes.values())
    return {name for name, shape in shapes.items() if forms[shape] == "mxnet"}


def convolution_for_inference(copy: Copy, node: Node) -> bool:
    """The same, merged with the BN by running statistics and the PReLU after it where nothing else reads their inputs."""
    index = copy.turn
    if _is_convolution(copy, node):
        reader = copy.only_reader(index)
        if reader and _is_norm(reader) and copy.source(reader) is node:
            copy.drop()
        else:
            _place_convolution(copy, "vargfacenet_convolution", node, node["name"], [])
        return True
    if _is_norm(node) and copy.inputs(node)[0][0] is None:
        reader = copy.only_reader(index)
        if reader and is_prelu(reader) and copy.source(reader) is node:
            copy.drop()
        else:
            _place_convolution(copy, "vargfacenet_inference", copy.source(node), node["name"], [node])
        return True
    if is_prelu(node) and copy.inputs(node)[0][0] is None:
        before = copy.source(node)
        parts = [before, node]
        _place_convolution(copy, "vargfacenet_inference_prelu", copy.source(before), node["name"], parts)
        return True
    return False


def norm(copy: Copy, node: Node) -> bool:
    """BN by the batch's statistics; deferred to `prelu` where only a PReLU reads its output.

    MXNet computes BN that uses its running statistics in training, or whose output is an output of the graph.
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


def prelu(copy: Copy, node: Node) -> bool:
    """PReLU, merged with the BN before it where `norm` has deferred that."""
    if not is_prelu(node):
        return False
    x, channels, slope = copy.inputs(node)[0], copy.shape(node)[1], channel_slopes(copy, node)
    if x[0] is not None:
        _place(copy, "vargfacenet_prelu", node["name"], x, [slope], channels)
        return True
    before = copy.source(node)
    x, gamma, beta, *running = copy.inputs(before)
    parameters = [gamma, beta, slope, *running]
    _place(copy, "vargfacenet_norm_prelu", node["name"], x, parameters, channels, **_norm_attrs(before))
    return True


def join(copy: Copy, node: Node) -> bool:
    """Sum of a block's branches, merged with the PReLU after it, and with the scale before it where there is one."""
    if _is_sum(node) and _prelu_alone_reads(copy, copy.turn):
        copy.drop()
        return True
    if _is_scale(copy, node):
        reader = copy.only_reader(copy.turn)
        if not (reader and _is_sum(reader) and copy.source(reader) is node):
            return False
        if not _prelu_alone_reads(copy, copy.index(reader)):
            return False
        copy.drop()
        return True
    if not (is_prelu(node) and _is_sum(copy.source(node)) and copy.inputs(node)[0][0] is None):
        return False
    total = copy.source(node)
    (data, other), slope = copy.inputs(total), channel_slopes(copy, node)
    if data[0] is not None:
        copy.place("vargfacenet_join", node["name"], [data, other, slope])
        return True
    data, weight = copy.inputs(copy.source(total))
    copy.place("vargfacenet_join_scaled", node["name"], [data, other, slope, weight])
    return True


def scale(copy: Copy, node: Node) -> bool:
    """Product of the images' channels and one weight each."""
    if not _is_scale(copy, node):
        return False
    copy.place("vargfacenet_scale", node["name"], copy.inputs(node))
    return True


def global_mean(copy: Copy, node: Node) -> bool:
    """Global average pooling."""
    if not is_global_average(node):
        return False
    copy.place("vargfacenet_mean", node["name"], copy.inputs(node))
    return True


def resize(copy: Copy, node: Node) -> bool:
    """Bilinear interpolation to a fixed size, whose gradient takes MXNet half of an update of GhostFaceNet V2."""
    attrs, shape = node.get("attrs", {}), copy.shapes[node["name"]]
    if node["op"] != "_contrib_BilinearResize2D" or len(node["inputs"]) != 1 or attrs.get("mode", "size") != "size":
        return False
    if any(attrs.get(f"scale_{side}", "None") != "None" for side in ("height", "width")):
        return False
    corners = str(attrs.get("align_corners", "True") in TRUE)
    size = {"height": str(shape[2]), "width": str(shape[3]), "align_corners": corners}
    copy.place("vargfacenet_resize", node["name"], copy.inputs(node), **size)
    return True


def _is_scale(copy: Copy, node: Node) -> bool:
    if node["op"] != "broadcast_mul":
        return False
    data, weight = copy.shape(node, 0), copy.shape(node, 1)
    return len(data) >= 3 and data[0] >= 2 and weight == data[:2] + (1,) * (len(data) - 2)


def _is_sum(node: Node) -> bool:
    return node["op"] in ("elemwise_add", "_plus")  # one operator under two names


def _prelu_alone_reads(copy: Copy, index: int) -> bool:
    reader = copy.only_reader(index)
    return reader is not None and is_prelu(reader) and copy.source(reader) is copy.old[index]


def _is_convolution(copy: Copy, node: Node) -> bool:
    attrs = node.get("attrs", {})
    if node["op"] != "Convolution" or attrs.get("no_bias") not in TRUE or len(copy.shape(node)) != 4:
        return False
    kernel, width = copy.shape(node, 1)[2:]
    same = kernel == width and kernel % 2 == 1 and attrs.get("pad", "(0, 0)") == str((kernel // 2, kernel // 2))
    known = attrs.get("stride", "(1, 1)") in ("(1, 1)", "(2, 2)") and attrs.get("dilate", "(1, 1)") == "(1, 1)"
    return same and known and copy.shape(node)[2:] != (1, 1)  # MXNet computes single pixels


def _shape_of(copy: Copy, node: Node) -> Shape:
    outputs, _, kernel, _ = copy.shape(node, 1)
    stride = int(node["attrs"].get("stride", "(1, 1)")[1])
    _, channels, height, width = copy.shape(node)
    return Shape(channels, height, width, outputs, _groups(node), kernel, stride)


def _groups(node: Node) -> int:
    return int(node["attrs"].get("num_group", "1"))


def _place_convolution(copy: Copy, op: str, node: Node, name: str, more: Sequence[Node]) -> None:
    """Place a convolution as `op` called `name`, with the parameters of the nodes `more` after its own."""
    (x, parameter), weight = copy.inputs(node), copy.shape(node, 1)
    copy.set_shape(parameter, weight)
    parameters = []
    for one in more:
        parameters += [channel_slopes(copy, one)] if is_prelu(one) else copy.inputs(one)[1:]
    for entry in parameters:
        copy.set_shape(entry, weight[:1])
    attrs = _norm_attrs(more[0]) if more else {}
    size = {
        "stride": node["attrs"].get("stride", "(1, 1)")[1],
        "groups": str(_groups(node)),
        "channels": str(weight[0]),
    }
    copy.place(op, name, [x, parameter, *parameters], **size, **attrs)


def _is_norm(node: Node) -> bool:
    attrs = node.get("attrs", {})
    return node["op"] == "BatchNorm" and attrs.get("use_global_stats") not in TRUE and attrs.get("axis", "1") == "1"


def _norm_attrs(node: Node) -> dict[str, str]:
    attrs = {**_NORM_DEFAULTS, **node.get("attrs", {})}
    fixed = "True" if attrs["fix_gamma"] in TRUE else "False"
    return {"eps": attrs["eps"], "momentum": attrs["momentum"], "fix_gamma": fixed}


def _place(copy: Copy, op: str, name: str, x: Entry, parameters: Sequence[Entry], channels: int, **attrs: str) -> None:
    for parameter in parameters:
        copy.set_shape(parameter, (channels,))
    copy.place(op, name, [x, *parameters], **attrs)
