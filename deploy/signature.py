"""The input and output of an ONNX file as other projects write them: which input is the image, its layout and its scaling."""

import typing

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError

LAYOUTS = {"NCHW": IMAGE_SHAPE, "NHWC": (*IMAGE_SHAPE[1:], IMAGE_SHAPE[0])}
_FIRST_NODES = 8  # among which a network that scales its own input does so
_MOST_AT_ONCE = 256  # images that a file may fix as its batch
_OWN = "vargfacenet"  # the producer of files that scale their own input
_RAW_MEAN = 16.0  # above which the running means of a BatchNorm on the image are those of unscaled images


class Scaling(typing.NamedTuple):
    """The change that images, RGB in 0..255, need before a network takes them: (x - mean) / std, and the order of channels.

    A mean or std of None is the network's own.
    """

    mean: typing.Optional[float] = None
    std: typing.Optional[float] = None
    bgr: bool = False

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Images (n, 3, height, width), RGB, 0..255, as the network takes them."""
        if self.bgr:
            images = images[:, ::-1]
        if (self.mean or 0.0) == 0.0 and (1.0 if self.std is None else self.std) == 1.0:
            return images
        return (images - np.float32(self.mean or 0.0)) / np.float32(1.0 if self.std is None else self.std)

    def __str__(self) -> str:
        mean, std = self.mean or 0.0, 1.0 if self.std is None else self.std
        changes = [] if (mean, std) == (0.0, 1.0) else [f"(x - {mean:g}) / {std:g}"]
        return ", ".join(changes + ["BGR"] * self.bgr)


OWN_SCALING = Scaling(0.0, 1.0)


class Signature(typing.NamedTuple):
    """The image input of a network.

    ``layout`` is a key of `LAYOUTS`; ``batch`` is the number of images that the file fixes, None for any.
    """

    name: str
    layout: str
    batch: typing.Optional[int]


def drop_weight_inputs(model, where) -> bool:
    """Removes inputs of a model (``onnx.ModelProto``) that are weights, and returns whether there were any.

    Old exporters list each weight as an input too. DataError where more or less than one input and one output are left.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in weights]
    if len(images) != 1 or len(graph.output) != 1:
        raise DataError(
            f"{where} is no network that embeds faces: it has {len(images)} inputs, {len(graph.output)} outputs"
        )
    found = len(images) < len(graph.input)
    if found:
        image = type(images[0])()
        image.CopyFrom(images[0])
        del graph.input[:]
        graph.input.append(image)
        model.ir_version = max(model.ir_version, 4)  # before, a weight had to be an input
    return found


def read_signature(model, where) -> Signature:
    """The signature of a model whose one input is the image; DataError where it does not take faces of 112x112."""
    image = model.graph.input[0]
    kind = image.type.tensor_type
    shape = [place.dim_value if place.dim_value > 0 else None for place in kind.shape.dim]
    fitting = [
        layout
        for layout, expected in LAYOUTS.items()
        if len(shape) == 4 and all(given in (None, side) for given, side in zip(shape[1:], expected))
    ]
    is_float = kind.elem_type == 1  # TensorProto.FLOAT
    if not fitting or not is_float or not 1 <= (shape[0] or 1) <= _MOST_AT_ONCE:
        text = [place.dim_value if place.HasField("dim_value") else place.dim_param or "?" for place in kind.shape.dim]
        sides = " or ".join(f"(N, {', '.join(map(str, sides))})" for sides in LAYOUTS.values())
        raise DataError(f"{where} takes {text}{'' if is_float else ', not of float32'}, expected float32 {sides}")
    return Signature(image.name, fitting[0], shape[0] or None)


def scaling_of(model, metadata, given: Scaling, where) -> tuple:
    """The scaling that a model needs, and how it is known (str): given, stated in its metadata, or recognised.

    A network without scaling of its own is recognised much as InsightFace's Python package does: among its first eight nodes
    the image is not both shifted and multiplied. It then takes (x - 127.5) / 127.5.
    """
    source = "given"
    stated = [_number(metadata, name, where) for name in ("input_mean", "input_std")]
    mean, std = given.mean, given.std
    if mean is None or std is None:
        if stated != [None, None]:
            found, source = (stated[0] or 0.0, 1.0 if stated[1] is None else stated[1]), "stated by the file"
        elif scales_itself(model):
            found, source = (0.0, 1.0), "the network's own"
        else:
            found, source = (127.5, 127.5), "assumed: the network has no scaling of its own"
        mean, std = (found[0] if mean is None else mean), (found[1] if std is None else std)
    if not std > 0 or not np.isfinite([mean, std]).all():
        raise DataError(f"{where} states the scaling (x - {mean:g}) / {std:g}: expected a positive divisor")
    return Scaling(mean, std, given.bgr or metadata.get("input_order", "RGB").upper() == "BGR"), source


def scales_itself(model) -> bool:
    """True where a network (``onnx.ModelProto``) brings images of 0..255 to its own range."""
    graph = model.graph
    if model.producer_name == _OWN:
        return True
    names, done = {graph.input[0].name}, set()
    for node in graph.node[:_FIRST_NODES]:
        # Only what is done to the image itself: behind the first layer, activations are made of the same operators.
        if node.op_type in _SHIFTS | _SCALES | _PASSES and names.intersection(node.input):
            names.update(node.output)
            done.add(node.op_type)
    return bool(done & _SHIFTS and done & _SCALES) or _normalises(graph)


_SHIFTS, _SCALES, _PASSES = {"Sub", "Add"}, {"Mul", "Div"}, {"Identity", "Transpose", "Cast"}


def _normalises(graph):
    """True where a BatchNorm stands on the image itself, with the running means of images in 0..255."""
    from onnx import numpy_helper

    names = {graph.input[0].name}
    for node in graph.node[:_FIRST_NODES]:
        if node.op_type in ("Identity", "Transpose") and node.input and node.input[0] in names:
            names.update(node.output)
        if node.op_type == "BatchNormalization" and len(node.input) == 5 and node.input[0] in names:
            means = [numpy_helper.to_array(one) for one in graph.initializer if one.name == node.input[3]]
            return bool(means) and means[0].size > 0 and bool(np.abs(means[0]).max() > _RAW_MEAN)
    return False


def _number(metadata, name, where):
    text = metadata.get(name)
    try:
        return None if text is None else float(text)
    except ValueError:
        raise DataError(f"{where} states {name}={text[:40]!r}, expected a number") from None
