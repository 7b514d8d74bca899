"""Checks of an ONNX file before it is run: it could name other files, endless loops and tensors of any size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError

if TYPE_CHECKING:
    import onnx

MOST_BYTES = (1 << 31) - 1  # the limit of protobuf
MOST_NODES = 20_000
MOST_NUMBERS = 1 << 24  # in the output of one node for one image
MOST_ATTRIBUTE = 1 << 24
DOMAINS = ("", "ai.onnx")
# Operators of networks that embed images. The output of none is larger than its inputs and weights explain, except for
# a few whose outputs are compared with MOST_NUMBERS where their shapes are known.
_NAMES = """
    Abs Add AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear Div Dropout Elu Erf Exp Flatten
    Gather Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization
    LeakyRelu LpNormalization MatMul Max MaxPool Min Mul Neg PRelu Pad Pow QuantizeLinear Reciprocal ReduceL2 ReduceMean
    ReduceSum Relu Reshape Selu Shape Sigmoid Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh Transpose
    Unsqueeze
"""
OPERATORS = frozenset(_NAMES.split())


def check_onnx(model: onnx.ModelProto, where: str, shape: tuple[int, ...] = IMAGE_SHAPE) -> None:
    """Refuse a model that is not a plain network of known operators; `shape` is that of one image.

    Raises
    ------
    DataError
        Naming `where` the model is from, where it keeps weights in other files, holds graphs within graphs, functions,
        unknown operators, weights without values, or an excessively large layer.
    """
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        raise DataError(f"{where} has {len(graph.node)} nodes, at most {MOST_NODES} are accepted")
    if model.functions or graph.sparse_initializer:
        raise DataError(f"{where} holds functions or sparse weights, which no network here needs")
    for tensor in graph.initializer:
        _check_tensor(tensor, where)
    for node in graph.node:
        if node.domain not in DOMAINS or node.op_type not in OPERATORS:
            raise DataError(f"{where}: node {node.name[:60]!r} is a {node.op_type[:60]}, which no network here needs")
        for attribute in node.attribute:
            if (
                attribute.HasField("g")
                or attribute.graphs
                or attribute.HasField("sparse_tensor")
                or attribute.ref_attr_name
            ):
                raise DataError(
                    f"{where}: node {node.name[:60]!r} holds a graph of its own, which no network here needs"
                )
            if any(abs(number) > MOST_ATTRIBUTE for number in (attribute.i, *attribute.ints)):
                raise DataError(f"{where}: node {node.name[:60]!r} has excessive {attribute.name[:60]}")
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                _check_tensor(tensor, where)
    _check_shapes(model, where, shape)


def _check_tensor(tensor: onnx.TensorProto, where: str) -> None:
    """Refuse a tensor without all the numbers that its shape announces."""
    from onnx import TensorProto, helper  # optional

    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise DataError(f"{where} keeps weights in other files, which are not read: save it as one file")
    if any(length < 0 for length in tensor.dims):
        raise DataError(f"{where}: weight {tensor.name[:60]!r} is damaged: its shape is {list(tensor.dims)}")
    try:
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if tensor.data_type == TensorProto.BFLOAT16:
            itemsize = 2  # NumPy has no such type
    except (KeyError, ValueError, TypeError):
        raise DataError(
            f"{where}: weight {tensor.name[:60]!r} has type {tensor.data_type}, which is not known"
        ) from None
    announced = math.prod(tensor.dims)
    typed = max(len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.double_data))
    there = len(tensor.raw_data) // itemsize if tensor.HasField("raw_data") else max(typed, len(tensor.uint64_data))
    if announced != there:
        raise DataError(
            f"{where}: weight {tensor.name[:60]!r} announces {announced} numbers and has {there}: it is damaged"
        )


def _weights(graph: onnx.GraphProto) -> set[str]:
    """Return names of weights, also cast or reordered ones: the file bounds their size."""
    found = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" or (node.op_type in _KEEPING and all(name in found for name in node.input)):
            found.update(node.output)
    return found


_KEEPING = ("Cast", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def _check_shapes(model: onnx.ModelProto, where: str, shape: tuple[int, ...]) -> None:
    """Refuse a model with an excessive output for one image, as far as shapes can be inferred."""
    import onnx  # optional

    one = onnx.ModelProto()
    one.CopyFrom(model)
    places = one.graph.input[0].type.tensor_type.shape.dim
    for place, length in zip(places, (max(1, places[0].dim_value), *shape)):
        place.dim_value = length
    del one.graph.value_info[:]  # the shapes that the file claims
    try:
        inferred = onnx.shape_inference.infer_shapes(one, data_prop=True)
    except Exception as error:
        raise DataError(f"{where} is damaged: the shapes of its layers do not fit one another") from error
    weights = _weights(inferred.graph)
    for value in inferred.graph.value_info:
        if value.name in weights:
            continue
        size = math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if size > MOST_NUMBERS:
            raise DataError(
                f"{where}: for one face, {value.name[:60]!r} has {size} numbers, at most {MOST_NUMBERS} are accepted"
            )
