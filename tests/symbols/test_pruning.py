"""Pruning: what is left computes what the whole network does where the removed filters are dead."""

import mxnet as mx
import numpy as np
import pytest

from tests.symbols.gradients import random_values
from vargfacenet.errors import SettingError
from vargfacenet.operators import runnable
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.channels import Channels
from vargfacenet.symbols.complexity import complexity
from vargfacenet.symbols.pruning import filters_of, least_important, remove_units, taylor_scores

NETWORKS = {
    "vargfacenet": {"multiplier": 0.25, "units": (1, 2, 1), "embedding_size": 16},
    "resnet18": {"multiplier": 0.25, "embedding_size": 16},
    "mobilefacenet": {"embedding_size": 16},
    "arcface_mbf": {"embedding_size": 16},
    "ghostfacenet": {"width": 0.5, "stride": 2, "embedding_size": 16},
    "mixfacenet": {"size": "xs", "embedding_size": 16},
    "pocketnet": {"embedding_size": 16},
    "shufflefacenet": {"width": 0.5, "embedding_size": 16},
}


def network(name):
    symbol = get_symbol(name, **NETWORKS[name])
    args, auxs = random_values(symbol)
    del args["data"]
    return symbol, *({key: mx.nd.array(value) for key, value in part.items()} for part in (args, auxs))


def embed(symbol, args, auxs):
    data = mx.nd.array(np.random.RandomState(5).uniform(0, 255, (2, 3, 112, 112)))
    graph = runnable(symbol, backend="basic")
    executor = graph.bind(mx.cpu(), {**args, "data": data}, aux_states=auxs)
    return executor.forward(is_train=False)[0].asnumpy()


def dead(channels, units, args, auxs):
    """Parameters of the whole network in which the filters to remove give nothing but zeros."""
    values = {name: value.asnumpy().copy() for name, value in {**args, **auxs}.items()}
    for name, uses in channels.uses.items():
        for use in uses:
            if use.gives and not name.endswith("_moving_var"):
                values[name][np.isin(use.units, list(units))] = 0
    made = {name: mx.nd.array(value) for name, value in values.items()}
    return {name: made[name] for name in args}, {name: made[name] for name in auxs}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "pocketnet" else []) for name in NETWORKS]
)
def test_what_is_left_computes_what_the_network_with_dead_filters_does(name):
    symbol, args, auxs = network(name)
    channels = Channels(symbol)
    scores = np.random.RandomState(0).uniform(size=100_000)
    units = least_important(channels, scores, 0.3)
    pruned = remove_units(channels, units, args, auxs)
    assert 0.2 < pruned.removed / pruned.filters < 0.45
    before, after = complexity(symbol), complexity(pruned.symbol)
    assert after.parameters < 0.9 * before.parameters
    assert after.flops < 0.95 * before.flops
    expected = embed(symbol, *dead(channels, units, args, auxs))
    found = embed(pruned.symbol, pruned.args, pruned.auxs)
    assert found.shape == (2, 16)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_nothing_removed_leaves_the_network_as_it_is():
    symbol, args, auxs = network("vargfacenet")
    pruned = remove_units(Channels(symbol), set(), args, auxs)
    np.testing.assert_array_equal(embed(symbol, args, auxs), embed(pruned.symbol, pruned.args, pruned.auxs))


def test_channels_of_a_group_and_of_a_sum_are_one_unit():
    data = mx.sym.var("data")
    a = mx.sym.Convolution(data, num_filter=4, kernel=(1, 1), no_bias=True, name="a")
    b = mx.sym.Convolution(a, num_filter=8, kernel=(1, 1), num_group=2, no_bias=True, name="b")
    c = mx.sym.Convolution(data, num_filter=8, kernel=(1, 1), no_bias=True, name="c")
    pooled = mx.sym.Pooling(b + c, global_pool=True, kernel=(1, 1), pool_type="avg")
    channels = Channels(mx.sym.FullyConnected(pooled, num_hidden=3, name="fc1"))
    a, b, c, out = (channels.of_node[name] for name in ("a", "b", "c", "fc1"))
    assert a[0] == a[1] != a[2] == a[3]
    assert list(b) == list(c) == [a[0]] * 4 + [a[2]] * 4
    assert set(out) <= channels.fixed
    assert filters_of(channels) == {a[0]: 10, a[2]: 10}


def test_scores_are_squares_of_what_the_loss_would_change_by():
    data = mx.sym.var("data")
    a = mx.sym.Convolution(data, num_filter=4, kernel=(1, 1), name="a")
    symbol = mx.sym.FullyConnected(mx.sym.Pooling(a, global_pool=True, kernel=(1, 1), pool_type="avg"), num_hidden=2)
    channels = Channels(symbol)
    random = np.random.RandomState(0)
    args = {"a_weight": random.normal(size=(4, 3, 1, 1)), "a_bias": random.normal(size=4)}
    gradients = {name: random.normal(size=value.shape) for name, value in args.items()}
    scores = taylor_scores(channels, args, gradients)
    for row, unit in enumerate(channels.of_node["a"]):
        change = (args["a_weight"][row] * gradients["a_weight"][row]).sum() + args["a_bias"][row] * gradients["a_bias"][
            row
        ]
        assert scores[unit] == pytest.approx(change**2)
    # The least important go first, and an eighth, here one, always stays.
    order = sorted(channels.of_node["a"], key=lambda unit: scores[unit])
    assert least_important(channels, scores, 0.5) == set(order[:2])
    assert least_important(channels, scores, 1.0) == set(order[:3])


def test_a_network_whose_channels_are_all_fixed_is_refused():
    symbol = mx.sym.FullyConnected(mx.sym.Flatten(mx.sym.var("data")), num_hidden=4)
    with pytest.raises(SettingError, match="has no filters that can be removed"):
        least_important(Channels(symbol), np.zeros(10), 0.3)
