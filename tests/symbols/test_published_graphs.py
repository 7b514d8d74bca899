"""Every builder against facts read off the published graph: the checkpoint contract."""

import json
import pathlib
import zlib

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.operators import runnable
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.complexity import complexity

PUBLISHED = sorted((pathlib.Path(__file__).parent / "published").glob("*.json"))


@pytest.fixture(params=PUBLISHED, ids=lambda path: path.stem, scope="module")
def published(request):
    return request.param.stem, json.loads(request.param.read_text())


def test_names_and_shapes_are_the_published_ones_in_order(published):
    network, facts = published
    symbol = get_symbol(network)
    args, _, auxs = symbol.infer_shape(data=(1, 3, 112, 112))
    built = {n: list(s) for n, s in zip(symbol.list_arguments(), args) if n != "data"}
    assert list(built.items()) == list(facts["args"].items())
    assert {n: list(s) for n, s in zip(symbol.list_auxiliary_states(), auxs)} == facts["aux"]
    assert symbol.list_outputs() == facts["output"]


def test_parameters_and_flops_are_the_published_ones(published):
    network, facts = published
    counted = complexity(get_symbol(network))
    assert (counted.parameters, counted.flops) == (facts["params"], facts["flops"])


def test_gammas_are_fixed_where_published(published):
    network, facts = published
    nodes = json.loads(get_symbol(network).tojson())["nodes"]
    fixed = [n["name"] for n in nodes if n["op"] == "BatchNorm" and n["attrs"].get("fix_gamma", "True") == "True"]
    assert fixed == facts["fixed_gamma"]


@pytest.fixture(scope="module")
def weights(published):
    """An array for each parameter, drawn from its own name."""
    _, facts = published
    return {name: _weights(name, shape) for name, shape in {**facts["args"], **facts["aux"]}.items()}


FORMS = {
    "plain": lambda symbol: symbol,
    "inference": runnable,
    "basic inference": lambda symbol: runnable(symbol, backend="basic"),
    "training": lambda symbol: runnable(symbol, for_training=True, backend="basic"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_embeddings_are_the_published_ones(published, weights, form):
    network, facts = published
    plain = get_symbol(network)
    outputs = _embed(form(plain), weights)
    expected, norms = np.array(facts["embedding_first8"]), np.array(facts["embedding_norm"])
    scale = norms[:, None] / np.sqrt(outputs.shape[1])
    assert np.abs((outputs[:, :8] - expected) / scale).max() < 1e-4
    np.testing.assert_allclose(np.linalg.norm(outputs, axis=1), norms, rtol=1e-4)


def _embed(symbol, weights):
    """Embeddings of two sine images."""
    executor = symbol.simple_bind(mx.cpu(), data=(2, 3, 112, 112), grad_req="null")
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if name != "data":
            array[:] = weights[name]
    executor.forward(is_train=False, data=mx.nd.array(_images()))
    return executor.outputs[0].asnumpy()


def _weights(name, shape):
    draw = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    if name.endswith("_gamma") and "_act_" not in name and "relu" not in name:
        values = draw.uniform(0.4, 0.9, shape)
    elif name.endswith("moving_var"):
        values = draw.uniform(0.5, 1.5, shape)
    elif name.endswith("_gamma"):
        values = draw.uniform(0.1, 0.4, shape)
    elif name.endswith(("_beta", "_bias", "moving_mean")):
        values = draw.normal(0, 0.02, shape)
    else:
        values = draw.normal(0, 1, shape) * np.sqrt(2 / np.prod(shape[1:]))
    return values.astype(np.float32)


def _images():
    i, k, y, x = np.ogrid[:2, :3, :112, :112]
    return (127.5 + 127.5 * np.sin(y * (k + 1) / 9 + i) * np.cos(x * (k + 2) / 13 - i)).astype(np.float32)
