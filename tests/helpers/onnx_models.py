"""Small ONNX models."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

WEIGHT = numpy_helper.from_array(np.ones((8, 3, 112, 112), np.float32), "weight")


def model(nodes=None, weights=(WEIGHT,), **kinds):
    nodes = nodes or [
        helper.make_node("Conv", ["data", "weight"], ["hidden"], name="conv", kernel_shape=[112, 112]),
        helper.make_node("Flatten", ["hidden"], ["fc1"], name="flat", axis=1),
    ]
    image = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, 112, 112])
    output = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, ["batch", 8])
    graph = helper.make_graph(nodes, "net", [image], [output], list(weights), **kinds)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
