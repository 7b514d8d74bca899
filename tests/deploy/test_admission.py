"""ONNX files that read other files, loop, or announce what is not there: refused before a runtime sees them."""

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.helpers.onnx_models import WEIGHT, model
from vargfacenet.deploy.admission import check_onnx
from vargfacenet.deploy.runtime import OnnxEmbedder
from vargfacenet.errors import DataError


def refused(made, message):
    with pytest.raises(DataError, match=f"^the network.*{message}"):
        OnnxEmbedder(made.SerializeToString())


def test_a_plain_network_is_admitted():
    embedder = OnnxEmbedder(model().SerializeToString())
    assert embedder.embed_batch(np.ones((2, 3, 112, 112))).shape == (2, 8)


def test_weights_in_another_file_are_refused_and_the_file_is_not_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(WEIGHT.ByteSize()))
    weight = TensorProto()
    weight.CopyFrom(WEIGHT)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=str(secret))
    refused(model(weights=[weight]), "keeps weights in other files, which are not read")
    constant = helper.make_node("Constant", [], ["c"], name="c", value=weight)
    refused(model([constant, *model().graph.node]), "keeps weights in other files")


@pytest.mark.parametrize(
    "op", ["Loop", "If", "Scan", "ConstantOfShape", "Expand", "Tile", "Range", "Resize", "RandomNormal"]
)
def test_an_operator_that_loops_or_makes_numbers_of_nothing_is_refused(op):
    refused(model([helper.make_node(op, ["data"], ["x"], name="it"), *model().graph.node]), f"node 'it' is a {op}")


def test_an_operator_of_a_library_is_refused():
    refused(
        model([helper.make_node("Conv", ["data"], ["x"], name="it", domain="evil"), *model().graph.node]),
        "node 'it' is",
    )


def test_a_graph_within_a_node_is_refused():
    made = model()
    made.graph.node[0].attribute.append(helper.make_attribute("body", made.graph))
    assert made.graph.node[0].attribute[-1].type == AttributeProto.GRAPH
    refused(made, "node 'conv' holds a graph of its own")


@pytest.mark.parametrize("dims", [[10**6, 10**6], [-1, 3], [0], [8, 3, 112, 113]])
def test_weights_that_are_not_there_are_refused(dims):
    weight = TensorProto()
    weight.CopyFrom(WEIGHT)
    weight.dims[:] = dims
    refused(model(weights=[weight]), "weight 'weight' (announces|is damaged)")


def test_an_attribute_out_of_proportion_is_refused():
    made = model()
    made.graph.node[0].attribute.append(helper.make_attribute("pads", [10**9] * 4))
    refused(made, "node 'conv' has excessive pads")


def test_a_layer_out_of_proportion_is_refused():
    pads = helper.make_attribute("pads", [5000] * 4)
    made = model()
    made.graph.node[0].attribute.append(pads)
    refused(made, r"for one face, 'hidden' has \d+ numbers, at most")


def test_layers_that_do_not_fit_one_another_are_refused():
    made = model([helper.make_node("Gemm", ["data", "weight"], ["fc1"], name="it")])
    with pytest.raises(DataError, match="onnxruntime does not accept the network"):
        OnnxEmbedder(made.SerializeToString())


def test_functions_sparse_weights_and_endless_nodes_are_refused():
    made = model()
    made.functions.add(name="f")
    refused(made, "functions or sparse weights")
    made = model([helper.make_node("Relu", ["data"], ["x"])] * 20_001)
    with pytest.raises(DataError, match="20001 nodes, at most 20000"):
        check_onnx(made, "x")


def test_weights_that_are_cast_may_be_as_large_as_the_file_has_them():
    half = numpy_helper.from_array(np.zeros((512, 3 * 112 * 112), np.float16), "half")
    nodes = [
        helper.make_node("Cast", ["half"], ["weight"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["data"], ["flat"], name="flat", axis=1),
        helper.make_node("Gemm", ["flat", "weight"], ["fc1"], name="fc1", transB=1),
    ]
    check_onnx(model(nodes, [half]), "x")
