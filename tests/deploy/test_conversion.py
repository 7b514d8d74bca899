"""Checkpoints of the lineage become plain ones that stock MXNet loads, and only where they stay the same function."""

import json

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.networks import SMALL, by_stock_calls, save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.deploy.conversion import convert_checkpoint
from vargfacenet.deploy.recognition import recognise
from vargfacenet.errors import CheckpointError
from vargfacenet.eval import Embedder, Pairs, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.symbols import get_symbol, list_networks

# What MXNet 1.4.1 itself lists as the parameters of these operators.
_ARGUMENTS_OF_MXNET_1_4 = {
    "_copy": "",
    "_minus_scalar": "scalar",
    "_mul_scalar": "scalar",
    "Convolution": "kernel stride dilate pad num_filter num_group workspace no_bias cudnn_tune cudnn_off layout",
    "BatchNorm": "eps momentum fix_gamma use_global_stats output_mean_var axis cudnn_off",
    "LeakyReLU": "act_type slope lower_bound upper_bound",
    "Activation": "act_type",
    "Pooling": "kernel pool_type global_pool cudnn_off pooling_convention stride pad p_value count_include_pad",
    "broadcast_mul": "",
    "elemwise_add": "",
    "FullyConnected": "num_hidden no_bias flatten",
    "Dropout": "p mode axes",
}


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).randint(0, 256, (3, 3, 112, 112)).astype(np.float32)


# Networks published outside MXNet, which need operators of later versions.
_OF_LATER_VERSIONS = {"edgeface", "ghostfacenet", "mixfacenet", "pocketnet", "shufflefacenet"}


@pytest.mark.parametrize("network", sorted(set(list_networks()) - _OF_LATER_VERSIONS))
def test_every_operator_and_attribute_that_is_saved_is_one_of_mxnet_1_4(network):
    for node in json.loads(get_symbol(network).tojson())["nodes"]:
        if node["op"] != "null":
            assert set(node.get("attrs", {})) <= set(_ARGUMENTS_OF_MXNET_1_4[node["op"]].split()), node["name"]


@pytest.mark.parametrize("network", list_networks())
def test_every_network_is_recognised_by_its_graph(network):
    assert recognise(get_symbol(network)) == (network, {})


def test_options_are_recognised():
    assert recognise(get_symbol("vargfacenet", use_se=False, **SMALL)) == ("vargfacenet", {"use_se": False, **SMALL})
    other = {"activation": "relu", "head_pooling": True, "multiplier": 1.0, "group_size": 16}
    assert recognise(get_symbol("vargfacenet", **other)) == ("vargfacenet", other)
    assert recognise(get_symbol("resnet34", use_se=True, multiplier=0.5)) == (
        "resnet34",
        {"use_se": True, "multiplier": 0.5},
    )


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("arcface_mbf", {"size": "large"}),
        ("edgeface", {"size": "xxs", "embedding_size": 128}),
        ("ghostfacenet", {"width": 1.0, "stride": 2}),
        ("ghostfacenet", {"version": 2}),
        ("mixfacenet", {"size": "xs", "shuffle": True}),
        ("mixfacenet", {"size": "m"}),
        ("pocketnet", {"size": "m", "embedding_size": 256}),
        ("shufflefacenet", {"width": 0.5}),
    ],
)
def test_sizes_are_recognised(network, options):
    assert recognise(get_symbol(network, **options)) == (network, options)


def test_a_network_with_another_epsilon_is_none_of_ours():
    graph = get_symbol("mobilefacenet").tojson().replace('"eps": "0.001"', '"eps": "0.0011"')
    assert recognise(mx.sym.load_json(graph)) is None


def test_a_half_precision_training_graph_becomes_a_plain_embedding(tmp_path, images):
    """As InsightFace trains with fp16: casts inside, classifier and loss behind, everything in the file in float16."""
    prefix = save_random_checkpoint(tmp_path / "plain", "resnet18", multiplier=0.25, embedding_size=16)
    symbol, args, auxs = load_checkpoint(prefix, 0)
    graph = json.loads(symbol.tojson())
    nodes = [node["name"] for node in graph["nodes"]]
    assert nodes[:2] == ["data", "id"]
    cast = {"op": "Cast", "name": "half", "attrs": {"dtype": "float16"}, "inputs": [[0, 0, 0]]}
    moved = [{**n, "inputs": [[s + (s > 0), *rest] for s, *rest in n["inputs"]]} for n in graph["nodes"]]
    moved[1]["inputs"] = [[1, 0, 0]]
    graph["nodes"] = [moved[0], cast, *moved[1:]]
    graph["arg_nodes"] = [index for index, node in enumerate(graph["nodes"]) if node["op"] == "null"]
    graph["node_row_ptr"] = list(range(len(graph["nodes"]) + 1))
    graph["heads"] = [[len(graph["nodes"]) - 1, 0, 0]]
    inside = mx.sym.load_json(json.dumps(graph))
    assert "half_output" in inside.get_internals().list_outputs()
    back = mx.sym.Cast(inside, dtype="float32", name="whole")
    logits = mx.sym.FullyConnected(mx.sym.L2Normalization(back), num_hidden=7, no_bias=True, name="fc7")
    whole = mx.sym.Group([mx.sym.BlockGrad(inside), mx.sym.SoftmaxOutput(logits, name="softmax")])
    saved = {name: value.astype("float16") for name, value in {**args, "fc7_weight": mx.nd.ones((7, 16))}.items()}
    mx.model.save_checkpoint(str(tmp_path / "trained"), 3, whole, saved, auxs)

    done = convert_checkpoint(tmp_path / "trained", 3, tmp_path / "out", out_epoch=1)
    assert done.recognised == ("resnet18", {"multiplier": 0.25, "embedding_size": 16})
    assert done.left_out == ["fc7_weight"]
    assert set(mx.nd.load(str(tmp_path / "out-0001.params"))) == {f"arg:{n}" for n in args} | {f"aux:{n}" for n in auxs}
    rounded = {name: value.astype("float16").astype("float32") for name, value in args.items()}
    save_checkpoint(tmp_path / "rounded", 0, symbol, rounded, auxs)
    expected = by_stock_calls(tmp_path / "rounded", 0, images)
    np.testing.assert_allclose(by_stock_calls(tmp_path / "out", 1, images), expected, rtol=1e-4, atol=1e-4)


def test_insightface_variant_becomes_ours_with_a_scale_of_one(tmp_path, images):
    prefix = save_random_checkpoint(tmp_path / "insightface", "vargfacenet_insightface", **SMALL)
    assert (load_checkpoint(prefix, 0).args["fc1_gamma"] != 1).asnumpy().all()
    done = convert_checkpoint(prefix, 0, tmp_path / "ours", network="vargfacenet")
    assert done.recognised == ("vargfacenet", {"use_se": False, **SMALL})
    assert (
        load_checkpoint(tmp_path / "ours", 0).symbol.tojson()
        == get_symbol("vargfacenet", use_se=False, **SMALL).tojson()
    )
    expected = by_stock_calls(prefix, 0, images)
    np.testing.assert_allclose(by_stock_calls(tmp_path / "ours", 0, images), expected, rtol=1e-4, atol=1e-4)
    back = convert_checkpoint(tmp_path / "ours", 0, tmp_path / "back", network="vargfacenet_insightface")
    assert back.recognised == ("vargfacenet_insightface", SMALL)
    np.testing.assert_allclose(by_stock_calls(tmp_path / "back", 0, images), expected, rtol=1e-4, atol=1e-4)


def test_a_trained_scale_does_not_become_a_fixed_one(tmp_path):
    prefix = save_random_checkpoint(tmp_path / "ours", "vargfacenet", use_se=False, **SMALL)
    with pytest.raises(
        CheckpointError, match=r"fc1 has a trained scale \(0.\d+ to 0.\d+\), which vargfacenet_insightface"
    ):
        convert_checkpoint(prefix, 0, tmp_path / "out", network="vargfacenet_insightface")
    assert not list(tmp_path.glob("out*"))


def test_another_network_is_not_the_same_function(tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "mobilefacenet")
    with pytest.raises(CheckpointError, match="not the same function as vargfacenet use_se=False .* operators differ"):
        convert_checkpoint(prefix, 0, tmp_path / "out", network="vargfacenet")


def test_parameters_under_other_names_find_their_places(tmp_path, images):
    prefix = save_random_checkpoint(tmp_path / "model", "mobilefacenet")
    saved = mx.nd.load(f"{prefix}-0000.params")
    saved["arg:fc1_weight"] = saved.pop("arg:pre_fc1_weight")
    mx.nd.save(str(tmp_path / "old-0000.params"), saved)
    graph = (tmp_path / "model-symbol.json").read_text().replace("pre_fc1_weight", "fc1_weight")
    (tmp_path / "old-symbol.json").write_text(graph)
    assert convert_checkpoint(tmp_path / "old", 0, tmp_path / "out").renamed == {"fc1_weight": "pre_fc1_weight"}
    expected = by_stock_calls(prefix, 0, images)
    np.testing.assert_array_equal(by_stock_calls(tmp_path / "out", 0, images), expected)


def test_a_graph_of_another_kind_keeps_its_operators(tmp_path, images):
    data = (mx.sym.Variable("data") - 127.5) * 0.0078125
    small = mx.sym.softmax(mx.sym.Pooling(data, kernel=(8, 8), stride=(8, 8), pool_type="avg"), axis=1)
    symbol = mx.sym.FullyConnected(small, num_hidden=4, name="fc1")
    random = np.random.RandomState(0)
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 112, 112))[0]))
    args = {name: mx.nd.array(random.normal(size=shape)) for name, shape in shapes.items() if name != "data"}
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, symbol, args, {})
    assert convert_checkpoint(tmp_path / "model", 0, tmp_path / "out").recognised is None
    expected = by_stock_calls(tmp_path / "model", 0, images)
    np.testing.assert_allclose(by_stock_calls(tmp_path / "out", 0, images), expected, rtol=1e-5)


def test_convert_says_what_it_did(capsys, tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet_insightface", **SMALL)
    assert main(["convert", str(prefix), str(tmp_path / "out"), "--as", "vargfacenet"]) == 0
    assert "network    vargfacenet use_se=False multiplier=0.25 units" in capsys.readouterr().out.replace(
        "embedding_size=16 ", ""
    )
    assert "did you mean 'vargfacenet'" in refused(capsys, "convert", prefix, tmp_path / "x", "--as", "vargfacene")
    assert "--epoch=-1: expected" in refused(capsys, "convert", prefix, tmp_path / "x", "--epoch", "-1")


def test_the_checkpoint_of_2018_takes_our_names_and_embeds_the_same(tmp_path, real_faces, images):
    done = convert_checkpoint(real_faces / "teacher" / "model", 0, tmp_path / "out")
    assert done.recognised == ("mobilefacenet", {})
    assert done.renamed == {"fc1_weight": "pre_fc1_weight"}
    assert load_checkpoint(tmp_path / "out", 0).symbol.tojson() == get_symbol("mobilefacenet").tojson()


def test_stock_calls_alone_give_the_accuracy_of_verify(tmp_path, pairs_set):
    """The lineage's verification, written without this package, on a checkpoint of this package."""
    images, is_same = pairs_set
    is_same = np.array(is_same)
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", **SMALL)
    decoded = np.stack([mx.image.imdecode(image).asnumpy().transpose(2, 0, 1) for image in images])
    both = by_stock_calls(prefix, 0, decoded) + by_stock_calls(prefix, 0, decoded[:, :, :, ::-1])
    unit = both / np.linalg.norm(both, axis=1, keepdims=True)
    distances = np.square(unit[0::2] - unit[1::2]).sum(axis=1)
    accuracies = []
    for fold in np.array_split(np.arange(len(is_same)), 10):
        others = np.setdiff1d(np.arange(len(is_same)), fold)
        rights = [((distances[others] < t) == is_same[others]).mean() for t in np.arange(0, 4, 0.01)]
        best = np.arange(0, 4, 0.01)[np.argmax(rights)]
        accuracies.append(((distances[fold] < best) == is_same[fold]).mean())
    score = verify_pairs(Embedder(*load_checkpoint(prefix, 0)), Pairs(images, is_same))
    assert score.accuracy == pytest.approx(np.mean(accuracies), abs=1e-9)
    assert score.std == pytest.approx(np.std(accuracies), abs=1e-9)
