"""Networks published outside MXNet against facts of their sources: sizes, order of the weights, and outputs.

``published/family`` holds one file a network: trained parameters, FLOPs, the kind of every parameter and running
statistic in the source's order (one letter each) with a digest of their shapes, and the embeddings that the source
computes of two images with weights drawn by `draw`.
"""

import hashlib
import json
import pathlib
import zlib

import mxnet as mx
import numpy as np
import pytest

from tests.symbols.gradients import directional_errors, gradients, independent_prelu, random_values, unequal
from vargfacenet.errors import SettingError
from vargfacenet.operators import runnable
from vargfacenet.symbols import get_symbol, list_networks, parameter_order
from vargfacenet.symbols.complexity import complexity
from vargfacenet.symbols.edgeface import cross_covariance_attention, position, split_block
from vargfacenet.symbols.layers import channel_shuffle
from vargfacenet.symbols.mixfacenet import part_sizes

FAMILY = {
    path.stem: json.loads(path.read_text())
    for path in sorted((pathlib.Path(__file__).parent / "published" / "family").glob("*.json"))
}
LARGE = {"arcface_torch_mbf_large", "edgeface_base", "ghostfacenet_v2_13_s1", "iresnet34", "iresnet50", "iresnet100"}
TOLERANCE = 2e-5


def marked(names):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in names]


def recorded():
    return [name for name, facts in FAMILY.items() if "kinds" in facts]


def draw(name, index, kind, shape, gamma):
    """The recorded weights: entry `index`, of one of the kinds of which the letters of ``kinds`` are the first."""
    random = np.random.RandomState(zlib.crc32(f"{name}/{index}".encode()) & 0xFFFFFFFF)
    if kind == "w":  # weight
        return random.normal(0, 1, shape) * np.sqrt(2 / np.prod(shape[1:]))
    if kind == "o":  # a gamma fixed at one
        return np.ones(shape)
    if kind in "bim":  # beta, bias, mean
        return random.normal(0, 0.02, shape)
    # gamma, variance, slope, layer scale, temperature
    bounds = {"g": gamma, "v": (0.5, 1.5), "s": (0.1, 0.4), "l": (0.4, 0.9), "t": (0.5, 1.5)}
    return random.uniform(*bounds[kind], shape)


def images():
    i, k, y, x = np.ogrid[:2, :3, :112, :112]
    return (127.5 + 127.5 * np.sin(y * (k + 1) / 9 + i) * np.cos(x * (k + 2) / 13 - i)).astype(np.float32)


def shapes_of(symbol):
    args, _, auxs = symbol.infer_shape(data=(2, 3, 112, 112))
    return dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), args + auxs))


def without_trailing_ones(shape):
    """The shape of a 1x1 convolution and of the same fully connected layer, which sources choose between."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return list(shape)


@pytest.mark.parametrize("name", FAMILY)
def test_parameters_and_flops_are_those_of_the_source(name):
    facts = FAMILY[name]
    symbol = get_symbol(facts["network"], **facts["options"])
    nodes = json.loads(symbol.tojson())["nodes"]
    fixed = [n["name"] for n in nodes if n["op"] == "BatchNorm" and n["attrs"].get("fix_gamma", "True") == "True"]
    shapes = shapes_of(symbol)
    counted = complexity(symbol)
    trained = counted.parameters - sum(int(np.prod(shapes[f"{layer}_gamma"])) for layer in fixed)
    assert (trained, counted.flops) == (facts["parameters"], facts["flops"])


@pytest.mark.parametrize("name", recorded())
def test_the_order_of_parameters_is_that_of_the_source(name):
    facts = FAMILY[name]
    shapes = shapes_of(get_symbol(facts["network"], **facts["options"]))
    order = parameter_order(facts["network"], **facts["options"])
    assert sorted(order) == sorted(set(shapes) - {"data"})
    assert len(order) == len(facts["kinds"])
    text = json.dumps([without_trailing_ones(shapes[parameter]) for parameter in order], separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == facts["shapes_sha256"]
    ends = {"b": "_beta", "m": "_moving_mean", "v": "_moving_var", "i": "_bias", "t": "_temperature"}
    for parameter, kind in zip(order, facts["kinds"]):
        assert parameter.endswith(ends.get(kind, "_weight" if kind == "w" else "_gamma")), parameter


FORMS = {
    "stock": {"backend": "stock"},
    "basic": {"backend": "basic"},
    "native": {"backend": "native"},
    "training": {"backend": "basic", "for_training": True},
}
# One network of each family runs in every form, the others in the plain one.
IN_EVERY_FORM = [
    "arcface_torch_mbf",
    "edgeface_xs_gamma_06",
    "ghostfacenet_v1_1_s2",
    "ghostfacenet_v2_1_s2",
    "pocketnet_m_256",
    "shufflefacenet_1x",
    "shufflemixfacenet_xs",
]


def error_of(name, **form):
    """The largest difference from the recorded embeddings, relative to an embedding's usual number."""
    facts = FAMILY[name]
    plain = get_symbol(facts["network"], **facts["options"])
    shapes = shapes_of(plain)
    executor = runnable(plain, **form).simple_bind(mx.cpu(), data=(2, 3, 112, 112), grad_req="null")
    arrays = {**executor.arg_dict, **executor.aux_dict}
    order = parameter_order(facts["network"], **facts["options"])
    for index, (parameter, kind) in enumerate(zip(order, facts["kinds"])):
        # A shape with ones at its end draws the same numbers, and the fan of a weight is the same.
        values = draw(name, index, kind, shapes[parameter], facts["gamma"])
        assert arrays[parameter].shape == shapes[parameter]
        arrays[parameter][:] = values.astype(np.float32)
    executor.forward(is_train=False, data=mx.nd.array(images()))
    found = executor.outputs[0].asnumpy()
    norms = np.array(facts["embedding_norm"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), norms, rtol=TOLERANCE)
    usual = norms[:, None] / np.sqrt(found.shape[1])
    return np.abs((found[:, :8] - np.array(facts["embedding_first8"])) / usual).max()


@pytest.mark.parametrize("name", marked(recorded()))
def test_embeddings_are_those_of_the_source(name):
    assert error_of(name, **FORMS["stock"]) < TOLERANCE


@pytest.mark.parametrize("form", ["basic", "native", "training"])
@pytest.mark.parametrize("name", IN_EVERY_FORM)
def test_every_form_of_a_graph_gives_the_same_embeddings(name, form, request):
    if form == "native":
        request.getfixturevalue("native")
    assert error_of(name, **FORMS[form]) < TOLERANCE


@pytest.mark.parametrize("epsilon", ["1e-05", "0.001"])
def test_the_epsilon_of_ghostfacenet_is_an_option(epsilon):
    nodes = json.loads(get_symbol("ghostfacenet", bn_eps=epsilon).tojson())["nodes"]
    assert {node["attrs"]["eps"] for node in nodes if node["op"] == "BatchNorm"} == {epsilon}


TRAINED = [
    ("ghostfacenet", {"width": 0.5, "stride": 2}),
    ("ghostfacenet", {"version": 2, "width": 0.5, "stride": 2}),
    ("mixfacenet", {"size": "xs", "shuffle": True}),
    ("pocketnet", {"size": "m"}),
    ("shufflefacenet", {"width": 0.5}),
    pytest.param("arcface_mbf", {}, marks=pytest.mark.slow),
    pytest.param("mobilefacenet_y2", {}, marks=pytest.mark.slow),
    pytest.param("iresnet18", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("network", "options"), TRAINED)
def test_gradients_are_those_of_an_independent_prelu(network, options, native):
    plain = get_symbol(network, **options)
    values, auxs = random_values(plain)
    embeddings, expected = gradients(independent_prelu(plain), values, auxs)
    for backend in ("native", "basic"):
        found, slopes = gradients(runnable(plain, for_training=True, backend=backend), values, auxs)
        np.testing.assert_allclose(found, embeddings, atol=1e-3 * np.abs(embeddings).max())
        assert unequal(slopes, expected) == {}, backend


def test_edgeface_trains_in_every_form(native):
    plain = get_symbol("edgeface", size="xxs")
    values, auxs = random_values(plain)
    for backend in ("native", "basic"):
        _, found = gradients(runnable(plain, for_training=True, backend=backend), values, auxs)
        assert all(np.isfinite(gradient).all() and gradient.any() for gradient in found.values()), backend


BLOCKS = {
    "attention": (cross_covariance_attention, (2, 5, 8), {"heads": 2, "ratio": 0.5}),
    "split block": (split_block, (2, 10, 3, 3), {"stage": 4, "heads": 2, "ratio": 0}),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_of_edgeface_equal_finite_differences(block):
    build, shape, options = BLOCKS[block]
    channels = shape[2] if len(shape) == 3 else shape[1]
    symbol = build(mx.sym.var("data"), channels, "block", **options)
    errors = directional_errors(symbol, shape)
    assert max(errors.values()) < 0.02, errors


def test_the_position_of_edgeface_is_the_papers_formula():
    size, channels = 14, 64
    symbol = position(channels, size, "p")
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", p_conv_weight=(channels, 64, 1, 1))
    executor.arg_dict["p_conv_weight"][:] = np.eye(64).reshape(64, 64, 1, 1)
    [found] = executor.forward()
    places = np.arange(1, size + 1) / (size + 1e-6) * 2 * np.pi
    expected = np.zeros((64, size, size))
    for j in range(32):
        wave = (np.cos if j % 2 else np.sin)(places / 10000 ** (2 * (j // 2) / 32))
        expected[j] = wave[:, None]
        expected[32 + j] = wave[None, :]
    np.testing.assert_allclose(found.asnumpy()[0], expected, atol=2e-6)


@pytest.mark.parametrize(("groups", "order"), [(2, [0, 3, 1, 4, 2, 5]), (3, [0, 2, 4, 1, 3, 5])])
def test_channels_are_shuffled_as_the_papers_say(groups, order):
    x = mx.nd.arange(2 * 6 * 4).reshape((2, 6, 2, 2))
    found = channel_shuffle(mx.sym.var("x"), "s", groups=groups).eval(ctx=mx.cpu(), x=x)[0]
    np.testing.assert_array_equal(found.asnumpy(), x.asnumpy()[:, order])


def test_the_first_part_takes_the_remainder():
    assert part_sizes(100, 3) == [34, 33, 33]


@pytest.mark.parametrize("network", list_networks())
def test_every_parameter_has_its_place_in_the_order(network):
    symbol = get_symbol(network)
    parameters = set(symbol.list_arguments() + symbol.list_auxiliary_states()) - {"data"}
    order = parameter_order(network)
    assert len(order) == len(parameters)
    assert set(order) == parameters


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("edgeface", {"size": "xl"}, "unknown size 'xl'.*base, s, xs, xxs"),
        ("edgeface", {"rank_ratio": 2}, "rank_ratio=2.0: expected between 0 and 1"),
        ("ghostfacenet", {"version": 3}, "version=3: expected 1 or 2"),
        ("ghostfacenet", {"stride": 4}, "stride=4: expected 1 or 2"),
        ("ghostfacenet", {"width": 0.1}, "width=0.1: expected between 0.25"),
        ("ghostfacenet", {"bn_eps": 1}, "bn_eps=1.0: expected between"),
        ("mixfacenet", {"size": "l"}, "unknown size 'l'"),
        ("mixfacenet", {"width": 100}, "width=100.0: expected between"),
        ("mixfacenet", {"last_channels": 0}, "last_channels=0: expected between 1"),
        ("pocketnet", {"size": "xs"}, "unknown size 'xs'"),
        ("shufflefacenet", {"width": 0.75}, "width=0.75: expected one of 0.5, 1, 1.5, 2"),
        ("arcface_mbf", {"size": "small"}, "unknown size 'small'"),
        ("iresnet50", {"dropout": 1}, "dropout=1.0: expected between 0 and 0.9"),
        ("iresnet50", {"size": "s"}, "unknown option of iresnet50"),
    ],
)
def test_a_wrong_option_is_named_with_the_remedy(network, options, message):
    with pytest.raises(SettingError, match=message):
        get_symbol(network, **options)
