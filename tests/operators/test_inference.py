"""Networks with fixed parameters: the same embeddings from other graphs, and parameters that do not fit."""

import json

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import CheckpointError
from vargfacenet.eval import Embedder
from vargfacenet.operators import inference_form, runnable
from vargfacenet.symbols import get_symbol

DATA = (3, 3, 112, 112)


def drawn(symbol):
    """Parameters and running statistics of which none is neutral."""
    random = np.random.RandomState(0)
    shapes, _, states = symbol.infer_shape(data=DATA)
    args = {
        name: mx.nd.array(random.normal(0, 0.3, shape) + (name.endswith("gamma")))
        for name, shape in zip(symbol.list_arguments(), shapes)
        if name != "data"
    }
    auxs = {n: mx.nd.array(random.uniform(0.5, 2, s)) for n, s in zip(symbol.list_auxiliary_states(), states)}
    return args, auxs


def embeddings(graph, args, auxs, images):
    executor = graph.simple_bind(mx.cpu(), grad_req="null", type_dict={"data": np.float32}, data=images.shape)
    executor.copy_params_from(args, auxs)
    return executor.forward(is_train=False, data=images)[0].asnumpy()


def branches(graph):
    """How many convolutions each operator computes, where it is more than one."""
    attrs = [node.get("attrs", {}) for node in json.loads(graph.tojson())["nodes"]]
    return sorted(int(one["branches"]) for one in attrs if one.get("branches", "1") != "1")


def operators(graph):
    return {node["op"] for node in json.loads(graph.tojson())["nodes"]}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("vargfacenet", {"multiplier": 0.25}),  # squeeze and excitation
        ("vargfacenet_insightface", {"multiplier": 0.25}),  # gamma of the embedding is fixed
        ("mobilefacenet", {}),  # a group per channel
        ("ghostfacenet", {}),  # another activation in squeeze and excitation
        ("iresnet18", {}),  # BN that no convolution precedes
    ],
)
def test_embeddings_are_those_of_the_plain_graph(network, options):
    symbol = get_symbol(network, embedding_size=16, **options)
    args, auxs = drawn(symbol)
    images = np.random.RandomState(1).uniform(0, 255, DATA).astype(np.float32)
    graph, fixed, states = inference_form(symbol, args, auxs)
    assert "vargfacenet_packed_prelu" in operators(graph)
    assert not any(name.startswith("vargfacenet_inference") for name in operators(graph))
    assert ("vargfacenet_excitation" in operators(graph)) == (network == "vargfacenet")
    assert branches(graph) == ([2, 3, 3, 3] if network.startswith("vargfacenet") else [])
    expected = embeddings(runnable(symbol, backend="basic"), args, auxs, images)
    found = embeddings(graph, fixed, states, images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_basic_backend_keeps_parameters_as_they_are(monkeypatch):
    monkeypatch.setenv("VARGFACENET_OPERATORS", "basic")
    symbol = get_symbol("vargfacenet", multiplier=0.25, embedding_size=16)
    args, auxs = drawn(symbol)
    graph, fixed, states = inference_form(symbol, args, auxs)
    assert fixed.keys() == args.keys()
    assert states.keys() == auxs.keys()
    assert set(graph.list_arguments()) == {"data", *args}


def test_parameters_that_do_not_fit_are_named():
    symbol = get_symbol("vargfacenet", multiplier=0.25, embedding_size=16)
    args, auxs = drawn(symbol)
    with pytest.raises(CheckpointError, match=r"the network: fc1_gamma has shape \(5,\), its graph expects \(16,\)"):
        inference_form(symbol, {**args, "fc1_gamma": mx.nd.ones(5)}, auxs)
    del args["fc1_gamma"]
    with pytest.raises(CheckpointError, match=r"the network lacks 1 parameter\(s\) of its graph: fc1_gamma"):
        inference_form(symbol, args, auxs)


def convolution(x, name, channels, *, kernel=3, stride=1, groups=1, weight=None, **norm):
    """A convolution with BN."""
    weight = {} if weight is None else {"weight": weight}
    size = {"kernel": 2 * (kernel,), "pad": 2 * (kernel // 2,), "stride": 2 * (stride,), "num_group": groups}
    y = mx.sym.Convolution(x, num_filter=channels, no_bias=True, name=name, **size, **weight)
    return mx.sym.BatchNorm(y, name=f"{name}_bn", fix_gamma=False, **norm)


def gate(x, outputs):
    """Squeeze and excitation of 8 channels with some outputs."""
    y = mx.sym.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1), name="mean")
    y = mx.sym.Convolution(y, num_filter=4, kernel=(1, 1), name="squeeze")
    y = mx.sym.LeakyReLU(y, act_type="prelu", name="act")
    y = mx.sym.Convolution(y, num_filter=outputs, kernel=(1, 1), name="excite")
    return mx.sym.Activation(y, act_type="sigmoid", name="gate")


def embedding_of(middle):
    """A network whose middle takes 8 channels of 56x56."""
    y = middle(convolution(mx.sym.var("data"), "first", 8, stride=2))
    return mx.sym.Flatten(mx.sym.Pooling(y, global_pool=True, pool_type="avg", kernel=(1, 1)), name="fc1")


def computed_weight(x):
    return convolution(x, "a", 8, weight=2 * mx.sym.var("a_weight", shape=(8, 8, 3, 3)))


def shared_weight(x):
    weight = mx.sym.var("w")
    return mx.sym.concat(*(convolution(x, name, 8, weight=weight) for name in "ab"))


def mean_that_is_read_elsewhere(x):
    mean = mx.sym.var("m", shape=(8,))
    return mx.sym.broadcast_add(convolution(x, "a", 8, moving_mean=mean), mean.reshape((1, 8, 1, 1)))


def prelu(x, name, **slope):
    return mx.sym.LeakyReLU(x, act_type="prelu", name=f"{name}_act", **slope)


def branches_of_one_input(x):
    """Pairs that are computed together, and others that differ from the first pair in one thing each, or gain nothing."""
    pair = [prelu(convolution(x, name, 16, groups=2), name) for name in "ab"]
    halved = [prelu(convolution(x, name, 16, kernel=1, stride=2), name) for name in "cd"]
    others = [
        prelu(convolution(x, "one_slope", 16, groups=2), "one_slope", gamma=mx.sym.var("s", shape=(1,))),
        convolution(x, "no_prelu", 16, groups=2),
        prelu(convolution(x, "wider", 24, groups=2), "wider"),
        prelu(convolution(pair[1], "later", 16, groups=4), "later"),
        *(prelu(convolution(x, name, 16, kernel=1), name) for name in ("pixel_1", "pixel_2")),
        *(prelu(convolution(x, name, 8, groups=8), name) for name in ("single_1", "single_2")),
    ]
    strided = prelu(convolution(x, "strided", 16, stride=2, groups=2), "strided")
    small = mx.sym.Pooling(mx.sym.concat(*halved, strided), global_pool=True, pool_type="avg", kernel=(1, 1))
    return mx.sym.concat(mx.sym.broadcast_add(mx.sym.concat(*pair, pair[0] + pair[1]), small), *others)


def taken_names(x):
    y = convolution(x, "a", 8)
    for name in ("a_bn_shift", "a_bn_packed", "a_bn_packed_"):
        y = mx.sym.broadcast_mul(y, mx.sym.var(name, shape=(1, 8, 1, 1)))
    return y


def half_precision_inside(x):
    y = mx.sym.Cast(convolution(x, "a", 8), dtype="float16")
    factor = mx.sym.var("h", shape=(1, 8, 1, 1), dtype="float16")
    return mx.sym.Cast(mx.sym.broadcast_mul(y, factor), dtype="float32")


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "middle",
    [
        lambda x: mx.sym.broadcast_mul(x, gate(x, 8)),
        lambda x: mx.sym.broadcast_mul(x, gate(x, 1)),
        lambda x: mx.sym.concat(x, mx.sym.broadcast_mul(convolution(x, "a", 16), gate(x, 16))),
        lambda x: mx.sym.broadcast_mul(x, convolution(x, "a", 1, kernel=1)),  # a group of several inputs, one output
        lambda x: convolution(x, "a", 4, kernel=1, groups=4),
        shared_weight,
        computed_weight,
        mean_that_is_read_elsewhere,
        branches_of_one_input,
        taken_names,
        half_precision_inside,
    ],
)
def test_unusual_graphs_are_computed_as_they_are(middle):
    symbol = embedding_of(middle)
    args, auxs = drawn(symbol)
    images = np.random.RandomState(1).uniform(-1, 1, DATA).astype(np.float32)
    expected = embeddings(runnable(symbol, backend="basic"), args, auxs, images)
    found = Embedder(symbol, args, auxs, batch_size=3).embed_batch(images)
    tolerance = 1e-2 if middle is half_precision_inside else 1e-5
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.usefixtures("native")
def test_convolutions_of_one_size_and_input_are_computed_together():
    symbol = embedding_of(branches_of_one_input)
    graph, _, _ = inference_form(symbol, *drawn(symbol))
    assert branches(graph) == [2, 2]
