"""ONNX files as other projects write them: fixed batches, weights as inputs, NHWC, and networks without own scaling."""

import logging

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from vargfacenet.commands import main
from vargfacenet.deploy.models import open_model
from vargfacenet.deploy.runtime import OnnxEmbedder
from vargfacenet.deploy.signature import Scaling, scales_itself
from vargfacenet.errors import DataError
from vargfacenet.eval.plausible import warn_near_chance, warn_without_spread

FILTERS = np.random.RandomState(0).normal(size=(8, 3, 112, 112)).astype(np.float32) / 1000
IMAGES = np.random.RandomState(1).randint(0, 256, (3, 3, 112, 112)).astype(np.float32)


def expected(images):
    """Embeddings by NumPy of images as the network takes them."""
    return np.einsum("nchw,ochw->no", images.astype(np.float64), FILTERS.astype(np.float64))


def network(
    *, batch="N", layout="NCHW", view=(-1, 8), weights_too=False, scaled=False, metadata=None, out=("N", 8), producer=""
):
    nodes, name = [], "data"
    weights = {
        "filters": FILTERS,
        "view": np.array(view, np.int64),
        "mean": np.float32([127.5]),
        "factor": np.float32([1 / 127.5]),
    }
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["data"], ["planes"], perm=[0, 3, 1, 2]))
        name = "planes"
    if scaled:
        nodes.append(helper.make_node("Sub", [name, "mean"], ["shifted"], name="_minusscalar0"))
        nodes.append(helper.make_node("Mul", ["shifted", "factor"], ["scaled"], name="_mulscalar0"))
        name = "scaled"
    nodes.append(helper.make_node("Conv", [name, "filters"], ["hidden"], name="conv", kernel_shape=[112, 112]))
    nodes.append(helper.make_node("Reshape", ["hidden", "view"], ["fc1"], name="view"))
    sides = [3, 112, 112] if layout == "NCHW" else [112, 112, 3]
    used = {one for node in nodes for one in node.input}
    tensors = [numpy_helper.from_array(value, key) for key, value in weights.items() if key in used]
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, *sides])]
    if weights_too:
        more = [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in tensors]
        inputs = [*more, *inputs]
    outputs = [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, out)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    opset, ir_version = (8, 3) if weights_too else (11, 6)
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name=producer
    )
    helper.set_model_props(made, metadata or {})
    return made.SerializeToString()


def scaled(images):
    return (images - 127.5) / 127.5


@pytest.mark.parametrize("view", [(1, -1), (-1, 24)])
def test_fewer_rows_than_images_are_an_error_and_not_noise(view):
    with pytest.raises(DataError, match=r"output of shape \(1, 24\) for 3 images, expected one row of numbers each"):
        OnnxEmbedder(network(view=view, out=("A", "B"))).embed_batch(IMAGES)


def test_an_embedder_of_any_kind_with_fewer_rows_than_images_is_an_error():
    from vargfacenet.eval import ImageEmbedder

    class Joining(ImageEmbedder):
        batch_size = 2

        def embed_batch(self, images):
            return np.zeros((1, 8), np.float32)

    with pytest.raises(DataError, match=r"output of shape \(1, 8\) for 2 images"):
        list(Joining().embed_batches(2, lambda place: np.zeros((112, 112, 3), np.uint8)))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_fixed_batch_is_run_with_that_many_at_a_time(batch, caplog):
    with caplog.at_level(logging.INFO):
        embedder = OnnxEmbedder(network(batch=batch, out=(batch, 8)))
    np.testing.assert_allclose(embedder.embed_batch(IMAGES), expected(scaled(IMAGES)), rtol=1e-3, atol=1e-4)
    assert f"takes {batch} image(s) at a time, which is slower" in caplog.text


def test_a_graph_that_fails_with_several_images_is_run_one_at_a_time(caplog):
    embedder = OnnxEmbedder(network(view=(1, 8)))
    with caplog.at_level(logging.INFO):
        found = embedder.embed_batch(IMAGES)
    np.testing.assert_allclose(found, expected(scaled(IMAGES)), rtol=1e-3, atol=1e-4)
    assert "run one at a time, which is slower" in caplog.text


def test_a_graph_that_fails_with_one_image_too_is_an_error_of_the_file():
    with pytest.raises(DataError, match="the network cannot be run: .*"):
        OnnxEmbedder(network(view=(1, 7), out=("A", "B"))).embed_batch(IMAGES)


def test_weights_listed_as_inputs_are_no_inputs():
    found = OnnxEmbedder(network(weights_too=True)).embed_batch(IMAGES)
    np.testing.assert_allclose(found, expected(scaled(IMAGES)), rtol=1e-3, atol=1e-4)


def test_channels_last_are_recognised_by_the_shape():
    found = OnnxEmbedder(network(layout="NHWC")).embed_batch(IMAGES)
    np.testing.assert_allclose(found, expected(scaled(IMAGES)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["UINT8", "FLOAT16", "DOUBLE"])
def test_images_of_another_type_are_given_as_that_type(kind):
    model = ModelProto.FromString(network(producer="" if kind == "UINT8" else "vargfacenet"))
    model.graph.input[0].type.tensor_type.elem_type = getattr(TensorProto, kind)
    model.graph.node[0].input[0] = "cast"
    model.graph.node.insert(0, helper.make_node("Cast", ["data"], ["cast"], to=TensorProto.FLOAT))
    content = model.SerializeToString()
    np.testing.assert_allclose(OnnxEmbedder(content).embed_batch(IMAGES), expected(IMAGES), rtol=1e-3, atol=1e-3)
    if kind == "UINT8":
        with pytest.raises(DataError, match="whole numbers, which are not scaled: give no scaling"):
            OnnxEmbedder(content, scaling=Scaling(127.5, 128.0))


def test_images_of_a_type_without_use_are_refused():
    model = ModelProto.FromString(network())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(DataError, match="of another type than float32, uint8, float16, float64"):
        OnnxEmbedder(model.SerializeToString())


def with_outputs(*more):
    """A network with further outputs: name and shape of each, computed from the embedding."""
    model = ModelProto.FromString(network())
    for name, shape in more:
        op = {"norm": ("ReduceL2", {"axes": [1]}), "twice": ("Add", {})}[name]
        inputs = ["fc1"] if name == "norm" else ["fc1", "fc1"]
        model.graph.node.append(helper.make_node(op[0], inputs, [name], **op[1]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model.SerializeToString()


def test_of_embedding_and_norm_the_embedding_is_taken(caplog):
    with caplog.at_level(logging.INFO):
        found = OnnxEmbedder(with_outputs(("norm", ["N", 1]))).embed_batch(IMAGES)
    np.testing.assert_allclose(found, expected(scaled(IMAGES)), rtol=1e-3, atol=1e-4)
    assert "has 2 outputs: fc1 is taken as the embedding" in caplog.text


def test_two_outputs_that_may_be_the_embedding_are_named():
    with pytest.raises(DataError, match=r"it has 1 input \(data\) and 2 outputs \(fc1, twice\), expected one of each"):
        OnnxEmbedder(with_outputs(("twice", ["N", 8])))


def test_rows_of_whole_numbers_are_no_embeddings():
    model = ModelProto.FromString(network())
    model.graph.node[-1].output[0] = "wide"
    model.graph.node.append(helper.make_node("Cast", ["wide"], ["fc1"], to=TensorProto.INT32))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    with pytest.raises(DataError, match="gives numbers of int32, expected float32"):
        OnnxEmbedder(model.SerializeToString()).embed_batch(IMAGES)


def test_other_sizes_are_refused_with_both_layouts():
    model = ModelProto.FromString(network())
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 128
    with pytest.raises(
        DataError, match=r"takes \['N', 3, 128, 112\], expected \(N, 3, 112, 112\) or \(N, 112, 112, 3\)"
    ):
        OnnxEmbedder(model.SerializeToString())


@pytest.mark.parametrize(
    ("made", "given", "taken"),
    [
        (network(), None, scaled),
        (network(scaled=True), None, scaled),  # by its own nodes, once
        (network(producer="vargfacenet"), None, lambda images: images),
        (network(metadata={"input_mean": "127.5", "input_std": "128"}), None, lambda images: (images - 127.5) / 128),
        (network(metadata={"input_order": "BGR"}), None, lambda images: scaled(images[:, ::-1])),
        (network(), Scaling(0.0, 255.0), lambda images: images / 255),
        (network(), Scaling(bgr=True), lambda images: scaled(images[:, ::-1])),
        (network(metadata={"input_std": "2"}), Scaling(std=4.0), lambda images: images / 4),
    ],
)
def test_images_are_scaled_as_given_stated_or_recognised(made, given, taken):
    found = OnnxEmbedder(made, scaling=given).embed_batch(IMAGES)
    np.testing.assert_allclose(found, expected(taken(IMAGES)), rtol=1e-3, atol=1e-3)


def graph_of(*operators):
    """A network whose operators, each on the one before and a constant, follow one another from the image on."""
    names = ["data", *(f"{place}" for place in range(len(operators)))]
    nodes = [helper.make_node(op, [names[place], "one"], [names[place + 1]]) for place, op in enumerate(operators)]
    one = numpy_helper.from_array(np.float32([1]), "one")
    image = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 112, 112])
    out = helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "net", [image], [out], [one]))


@pytest.mark.parametrize(
    ("operators", "own"),
    [
        (["Sub", "Mul", "Conv"], True),
        (["Mul", "Add", "Conv"], True),
        (["Transpose", "Cast", "Sub", "Div", "Conv"], True),
        (["Mul", "Conv", "Add"], False),
        (["Transpose", "Conv", "Abs", "Sub", "Mul", "Add"], False),  # PReLU as TensorFlow writes it
    ],
)
def test_scaling_is_recognised_only_in_what_is_done_to_the_image_itself(operators, own):
    assert scales_itself(graph_of(*operators)) is own


def test_a_batch_of_minus_one_is_any_number():
    np.testing.assert_allclose(
        OnnxEmbedder(network(batch=-1)).embed_batch(IMAGES), expected(scaled(IMAGES)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("stated", "message"), [("x", "input_std='x', expected a number"), ("0", "a positive divisor")]
)
def test_a_scaling_that_is_none_is_refused(stated, message):
    with pytest.raises(DataError, match=message):
        OnnxEmbedder(network(metadata={"input_std": stated}))


def test_embeddings_of_another_scaling_are_not_taken_for_the_same(tmp_path):
    (tmp_path / "net.onnx").write_bytes(network())
    marks = {
        open_model(tmp_path / "net.onnx", scaling=one).cache_key
        for one in (None, Scaling(0.0, 255.0), Scaling(bgr=True))
    }
    assert len(marks) == 3


def test_a_checkpoint_can_be_given_a_scaling_too(tmp_path):
    from tests.helpers.networks import save_random_checkpoint

    prefix = save_random_checkpoint(tmp_path / "model", "mobilefacenet")
    plain, swapped = open_model(prefix), open_model(prefix, scaling=Scaling(bgr=True))
    assert plain.cache_key != swapped.cache_key
    np.testing.assert_allclose(
        swapped.embedder.embed_batch(IMAGES), plain.embedder.embed_batch(IMAGES[:, ::-1]), rtol=1e-4, atol=1e-5
    )


def test_options_name_the_scaling(tmp_path, pairs_file, caplog, capsys):
    (tmp_path / "net.onnx").write_bytes(network())
    call = ["verify", str(tmp_path / "net.onnx"), "--bins", str(pairs_file), "--no-cache"]
    assert main([*call, "--input-mean", "0", "--input-std", "255", "--bgr"]) == 0
    assert main([*call, "--input-std", "0"]) == 2
    assert "--input-std=0.0: expected between" in capsys.readouterr().err


def test_accuracy_near_chance_and_embeddings_without_spread_are_remarked_on(caplog):
    random = np.random.RandomState(0)
    spread = random.normal(size=(40, 16))
    assert not warn_without_spread(spread)
    assert not warn_without_spread(np.repeat(spread[:2], 20, axis=0))
    assert not warn_near_chance(0.97, 600, "lfw")
    assert not warn_near_chance(0.5, 10, "lfw")
    assert not caplog.text
    assert warn_without_spread(spread * 0.01 + 1)
    assert warn_without_spread(np.ones((40, 16)))
    assert warn_near_chance(0.55, 600, "lfw")
    assert caplog.text.count("RGB instead of BGR") == 3
