"""Networks with fixed parameters: the same embeddings from other graphs, and parameters that do not fit."""

import json

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import CheckpointError
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
    executor = graph.simple_bind(mx.cpu(), grad_req="null", data=images.shape)
    executor.copy_params_from(args, auxs)
    return executor.forward(is_train=False, data=images)[0].asnumpy()


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
