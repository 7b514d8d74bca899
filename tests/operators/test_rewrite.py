"""The graph that trains: values, and the gradient of every parameter, against an independent PReLU."""

import importlib
import json
import zlib

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.operators import forms, runnable
from vargfacenet.symbols import get_symbol

IMAGE = (3, 112, 112)


def independent_graph(monkeypatch, network, **options):
    """The network with every PReLU as two rectifiers and a broadcast product, built anew, not rewritten."""
    plain = get_symbol(network, **options)
    shapes = dict(zip(plain.list_arguments(), plain.infer_shape(data=(1, *IMAGE))[0]))

    def activation(x, kind, name):
        slope = mx.sym.var(f"{name}_gamma", shape=shapes[f"{name}_gamma"])
        return mx.sym.relu(x) - mx.sym.broadcast_mul(mx.sym.reshape(slope, shape=(1, -1, 1, 1)), mx.sym.relu(-x))

    with monkeypatch.context() as patch:
        for name in ("layers", "vargfacenet", "resnet"):
            patch.setattr(importlib.import_module(f"vargfacenet.symbols.{name}"), "activation", activation)
        return plain, get_symbol(network, **options)


def gradients(symbol, values, auxs, device=None):
    """Outputs, and gradients of every argument for a random direction of the embedding, in training mode."""
    executor = symbol.simple_bind(device or mx.cpu(), data=values["data"].shape, grad_req="write")
    executor.copy_params_from(
        {n: mx.nd.array(v) for n, v in values.items()}, {n: mx.nd.array(v) for n, v in auxs.items()}
    )
    executor.forward(is_train=True)
    direction = np.random.RandomState(1).normal(size=executor.outputs[0].shape)
    executor.backward(mx.nd.array(direction))
    return executor.outputs[0].asnumpy(), {name: g.asnumpy() for name, g in executor.grad_dict.items()}


def draw(symbol, images=8):
    random = np.random.RandomState(0)
    args, _, auxs = symbol.infer_shape(data=(images, *IMAGE))
    values = {}
    for name, shape in zip(symbol.list_arguments(), args):
        if name == "data":
            values[name] = random.uniform(0, 255, shape)
        elif name.endswith("weight"):
            values[name] = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            values[name] = random.uniform(0.1, 0.9, shape)
    return values, {n: np.full(s, 0.5) for n, s in zip(symbol.list_auxiliary_states(), auxs)}


def unequal(found, expected):
    """Names of the gradients that are not those expected, and by how much of their length.

    Rounding turns a few activations near zero the other way, which moves single entries of a deep network's gradients
    by some hundredths; the slopes that the stock operator gets wrong are off by a quarter and more.
    """
    # A bias before BN has no gradient but rounding.
    least = 1e-3 * max(np.abs(gradient).max() for name, gradient in expected.items() if name != "data")
    wrong = {}
    for name, gradient in expected.items():
        error = np.linalg.norm(found[name] - gradient)
        share = error / (np.linalg.norm(gradient) + least * np.sqrt(gradient.size))
        if share > 0.05:
            wrong[name] = float(share)
    return wrong


NETWORKS = [
    ("vargfacenet", {}),
    ("vargfacenet", {"multiplier": 0.25, "embedding_size": 16}),
    ("resnet18", {"multiplier": 0.25, "embedding_size": 16, "use_se": True}),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: "-".join([network[0], *network[1]]))
def independent(request):
    """A plain graph, what it is given, and outputs and gradients of its independent form."""
    network, options = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vargfacenet.symbols.resnet.DROPOUT", 0.0)
        plain, other = independent_graph(patch, network, **options)
    values, auxs = draw(plain, images=8 if options else 4)
    return plain, values, auxs, gradients(other, values, auxs)


@pytest.mark.parametrize(
    ("backend", "for_training", "device"),
    [
        ("native", True, mx.cpu()),
        ("mxnet", True, mx.cpu()),
        ("basic", True, mx.cpu()),
        ("basic", False, mx.cpu()),
        ("basic", True, mx.gpu()),
    ],
)
def test_gradient_of_every_parameter_equals_an_independent_form(
    request, monkeypatch, independent, backend, for_training, device
):
    """`mxnet` is the native backend whose convolutions are MXNet's own."""
    if backend in forms.FORMS:
        request.getfixturevalue("native")
        monkeypatch.setenv(forms.VARIABLE, backend)
        backend = "native"
    if device.device_type == "gpu" and not mx.context.num_gpus():
        pytest.skip("MXNet sees no GPU here")
    plain, values, auxs, (expected_outputs, expected) = independent
    outputs, found = gradients(runnable(plain, for_training=for_training, backend=backend), values, auxs, device)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-3, atol=1e-3)
    assert set(found) == set(plain.list_arguments()) == set(expected)
    wrong = unequal(found, expected)
    assert not wrong


def test_the_stock_operator_gives_wrong_slope_gradients(monkeypatch):
    """The reason for the other backends, and proof that the test above can fail."""
    plain, independent = independent_graph(monkeypatch, "vargfacenet", **NETWORKS[1][1])
    values, auxs = draw(plain)
    _, expected = gradients(independent, values, auxs)
    _, found = gradients(runnable(plain, for_training=True, backend="stock"), values, auxs)
    wrong = unequal(found, expected)
    assert [name for name in wrong if name.endswith("act_gamma")], wrong


def by_backend(symbol, shape, backend, *, for_training=True):
    """Output and gradients of a graph on one input, with every parameter drawn by its name."""
    graph = runnable(symbol, for_training=for_training, backend=backend, data_shape=shape)
    executor = graph.simple_bind(mx.cpu(), data=shape, grad_req="write")
    for name, array in executor.arg_dict.items():
        seed = zlib.crc32(name.encode())
        array[:] = np.random.RandomState(seed).normal(size=array.shape)
    [output] = executor.forward(is_train=True)
    executor.backward(mx.nd.array(np.random.RandomState(1).normal(size=output.shape)))
    found = {name: array.asnumpy() for name, array in executor.grad_dict.items()}
    return graph, {"output": output.asnumpy(), **found}


def operators(graph):
    return [node["op"] for node in json.loads(graph.tojson())["nodes"] if node["op"] != "null"]


DEPTHWISE = [(4, 3, 1, True), (6, 3, 2, False), (10, 5, 1, True), (26, 3, 2, True), (100, 7, 1, True)]


@pytest.mark.parametrize(("channels", "kernel", "stride", "no_bias"), DEPTHWISE)
def test_odd_channels_of_depthwise_convolutions_are_filled_up_without_a_trace(channels, kernel, stride, no_bias):
    symbol = mx.sym.Convolution(
        mx.sym.var("data"),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(kernel // 2, kernel // 2),
        num_filter=channels,
        num_group=channels,
        no_bias=no_bias,
        name="dw",
    )
    shape = (2, channels, 9, 8)
    _, expected = by_backend(symbol, shape, "stock")
    graph, found = by_backend(symbol, shape, "basic")
    assert graph.list_arguments() == symbol.list_arguments()
    whole = next(node for node in json.loads(graph.tojson())["nodes"] if node["op"] == "Convolution")
    assert int(whole["attrs"]["num_filter"]) % 8 == 0
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4 * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize("corners", [{}, {"align_corners": False}, {"align_corners": True}])
def test_a_resize_is_the_same_on_every_backend(native, corners):
    symbol = mx.sym.contrib.BilinearResize2D(mx.sym.var("data"), height=14, width=9, **corners)
    shape = (2, 5, 7, 6)
    _, expected = by_backend(symbol, shape, "stock")
    for for_training in (True, False):
        graph, found = by_backend(symbol, shape, "native", for_training=for_training)
        assert operators(graph) == ["vargfacenet_resize"]
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-5 * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize(
    "options", [{"mode": "odd_scale"}, {"height": 3, "width": 3}, {"height": 20, "width": 20, "mode": "to_odd_up"}]
)
def test_a_resize_whose_size_follows_from_its_input_stays_as_it_is(native, options):
    symbol = mx.sym.contrib.BilinearResize2D(mx.sym.var("data"), scale_height=2, scale_width=2, **options)
    graph, _ = by_backend(symbol, (2, 5, 7, 6), "native")
    assert operators(graph) == ["_contrib_BilinearResize2D"]


@pytest.mark.parametrize(("channels", "groups"), [(16, 16), (24, 24), (10, 1), (10, 5), (3, 3)])
def test_other_convolutions_stay_as_they_are(channels, groups):
    data = mx.sym.var("data")
    symbol = mx.sym.Convolution(data, kernel=(3, 3), num_filter=channels, num_group=groups, name="conv")
    graph, _ = by_backend(symbol, (2, channels, 8, 8), "basic")
    assert operators(graph) == ["Convolution"]


@pytest.mark.parametrize("no_bias", [True, False])
def test_factors_of_a_linear_layer_on_tokens_go_into_its_weights(no_bias):
    layer = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=5, flatten=False, no_bias=no_bias, name="fc")
    factors = mx.sym.reshape(mx.sym.var("factors", shape=(5,)), shape=(1, 1, -1))
    symbol = mx.sym.broadcast_mul(layer, factors, name="scaled")
    _, expected = by_backend(symbol, (2, 6, 7), "stock")
    graph, found = by_backend(symbol, (2, 6, 7), "basic")
    assert sorted(graph.list_arguments()) == sorted(symbol.list_arguments())
    assert operators(graph)[-1] == "FullyConnected"
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5 * np.abs(values).max(), err_msg=name)


def test_factors_stay_where_the_layer_is_read_elsewhere_or_they_differ_by_token():
    layer = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=5, flatten=False, name="fc")
    factors = mx.sym.reshape(mx.sym.var("factors", shape=(5,)), shape=(1, 1, -1))
    read_twice = mx.sym.broadcast_add(mx.sym.broadcast_mul(layer, factors), layer)
    by_token = mx.sym.broadcast_mul(layer, mx.sym.reshape(mx.sym.var("factors", shape=(6,)), shape=(1, 6, 1)))
    for symbol in (read_twice, by_token):
        graph, found = by_backend(symbol, (2, 6, 7), "basic")
        assert "broadcast_mul" in operators(graph)
        _, expected = by_backend(symbol, (2, 6, 7), "stock")
        np.testing.assert_allclose(found["output"], expected["output"], rtol=1e-5, atol=1e-5)
