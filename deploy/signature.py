"""The image input of an ONNX file, also of other projects: its name, layout and scaling."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

LAYOUTS = {"NCHW": IMAGE_SHAPE, "NHWC": (*IMAGE_SHAPE[1:], IMAGE_SHAPE[0])}
_FIRST_NODES = 8  # a network that scales its own input does so among these
MOST_AT_ONCE = 256  # largest fixed batch of a file
_OWN = "vargfacenet"  # the producer of files that scale their own input
_RAW_MEAN = 16.0  # larger running means of a BatchNorm on the image are those of unscaled images


class Scaling(NamedTuple):
    """The scaling of images, RGB in 0..255, that a network expects: (x - mean) / std, and the order of channels.

    A mean or std of None is the network's own.
    """

    mean: float | None = None
    std: float | None = None
    bgr: bool = False

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Scale images (n, 3, height, width), RGB, 0..255."""
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


class Signature(NamedTuple):
    """The image input of a network.

    ``layout`` is a key of `LAYOUTS`; ``batch`` is the number of images that the file fixes, None for any; ``dtype`` is the
    type of their numbers.
    """

    name: str
    layout: str
    batch: int | None
    dtype: str


# Types of the images by their numbers in ONNX's TensorProto.
_UINT8 = 2
_TYPES = {1: "float32", _UINT8: "uint8", 10: "float16", 11: "float64"}


def keep_image_and_embedding(model: onnx.ModelProto, where: str) -> bool:
    """Remove inputs of a model that are weights and outputs that are not the embedding; return True where there were any.

    Old exporters list each weight as an input too. Of several outputs, the only one with a row of more than one number for
    each image is the embedding; others may be its norm. DataError where more or less than one input and output are left.
    """
    graph = model.graph
    one = _only_embedding(graph)
    if one is not None:
        log.info("%s has %d outputs: %s is taken as the embedding", where, len(graph.output), one.name)
        chosen = type(one)()
        chosen.CopyFrom(one)
        del graph.output[:]
        graph.output.append(chosen)
    weights = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in weights]
    if len(images) != 1 or len(graph.output) != 1:
        raise DataError(
            f"{where} is not a network that embeds faces: it has {_listed('input', images)} and "
            f"{_listed('output', graph.output)}, expected one of each"
        )
    has_weights = len(images) < len(graph.input)
    if has_weights:
        image = type(images[0])()
        image.CopyFrom(images[0])
        del graph.input[:]
        graph.input.append(image)
        model.ir_version = max(model.ir_version, 4)  # before, a weight had to be an input
    return has_weights or one is not None


def _only_embedding(graph: onnx.GraphProto) -> onnx.ValueInfoProto | None:
    """Return the only one of several outputs that has rows of more than one number."""
    sides = [[place.dim_value for place in one.type.tensor_type.shape.dim] for one in graph.output]
    rows = [one for one, side in zip(graph.output, sides) if len(side) == 2 and side[1] != 1]
    return rows[0] if len(graph.output) > 1 and len(rows) == 1 else None


def _listed(what: str, values: Sequence[onnx.ValueInfoProto]) -> str:
    names = ", ".join(value.name for value in values[:4])
    return f"{len(values)} {what}{'' if len(values) == 1 else 's'}" + (f" ({names})" if names else "")


def read_signature(model: onnx.ModelProto, where: str) -> Signature:
    """Return the signature of a model with one input; DataError where that does not accept faces of 112x112."""
    image = model.graph.input[0]
    kind = image.type.tensor_type
    shape = [place.dim_value if place.dim_value > 0 else None for place in kind.shape.dim]
    fitting = [
        layout
        for layout, expected in LAYOUTS.items()
        if len(shape) == 4 and all(given in (None, side) for given, side in zip(shape[1:], expected))
    ]
    dtype = _TYPES.get(kind.elem_type)
    if not fitting or dtype is None or not 1 <= (shape[0] or 1) <= MOST_AT_ONCE:
        text = [place.dim_value if place.HasField("dim_value") else place.dim_param or "?" for place in kind.shape.dim]
        sides = " or ".join(f"(N, {', '.join(map(str, sides))})" for sides in LAYOUTS.values())
        other = "" if dtype else f" of another type than {', '.join(_TYPES.values())}"
        raise DataError(f"{where} takes {text}{other}, expected {sides}")
    return Signature(image.name, fitting[0], shape[0] or None, dtype)


def scaling_of(model: onnx.ModelProto, metadata: Mapping[str, str], given: Scaling, where: str) -> tuple[Scaling, str]:
    """Return the scaling that a model expects, and its source in words: given, stated in its metadata, or recognised.

    A network without its own scaling is recognised much as InsightFace's Python package does: the image is not both
    shifted and multiplied among its first eight nodes. It then expects (x - 127.5) / 127.5. One that takes bytes cannot
    expect scaled images.
    """
    source = "given"
    stated = [_number(metadata, name, where) for name in ("input_mean", "input_std")]
    mean, std = given.mean, given.std
    if mean is None or std is None:
        if stated != [None, None]:
            found, source = (stated[0] or 0.0, 1.0 if stated[1] is None else stated[1]), "stated by the file"
        elif model.graph.input[0].type.tensor_type.elem_type == _UINT8 or scales_itself(model):
            found, source = (0.0, 1.0), "the network's own"
        else:
            found, source = (127.5, 127.5), "assumed: the network has no scaling of its own"
        mean, std = (found[0] if mean is None else mean), (found[1] if std is None else std)
    if not std > 0 or not np.isfinite([mean, std]).all():
        raise DataError(f"{where} states the scaling (x - {mean:g}) / {std:g}: expected a positive divisor")
    return Scaling(mean, std, given.bgr or metadata.get("input_order", "RGB").upper() == "BGR"), source


def scales_itself(model: onnx.ModelProto) -> bool:
    """Return True for a network that scales images of 0..255 itself."""
    graph = model.graph
    if model.producer_name == _OWN:
        return True
    names: set[str] = {graph.input[0].name}
    done: set[str] = set()
    for node in graph.node[:_FIRST_NODES]:
        # Only operators on the image itself count: activations behind the first layer consist of the same ones.
        if node.op_type in _SHIFTS | _SCALES | _PASSES and names.intersection(node.input):
            names.update(node.output)
            done.add(node.op_type)
    return bool(done & _SHIFTS and done & _SCALES) or _normalises(graph)


_SHIFTS, _SCALES, _PASSES = {"Sub", "Add"}, {"Mul", "Div"}, {"Identity", "Transpose", "Cast"}


def _normalises(graph: onnx.GraphProto) -> bool:
    """Return True where a BatchNorm is applied to the image itself, with the running means of images in 0..255."""
    from onnx import numpy_helper  # optional

    names = {graph.input[0].name}
    for node in graph.node[:_FIRST_NODES]:
        if node.op_type in ("Identity", "Transpose") and node.input and node.input[0] in names:
            names.update(node.output)
        if node.op_type == "BatchNormalization" and len(node.input) == 5 and node.input[0] in names:
            means = [numpy_helper.to_array(one) for one in graph.initializer if one.name == node.input[3]]
            return bool(means) and means[0].size > 0 and bool(np.abs(means[0]).max() > _RAW_MEAN)
    return False


def _number(metadata: Mapping[str, str], name: str, where: str) -> float | None:
    text = metadata.get(name)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where} states {name}={text[:40]!r}, expected a number") from None
