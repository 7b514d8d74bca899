"""Training on native operators against training on basic ones."""

import functools

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.images import image
from vargfacenet.operators import runnable
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.heads import margin_softmax
from vargfacenet.symbols.objective import objective
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("native")

TINY = {"multiplier": 0.25, "units": (1, 2, 1), "embedding_size": 16}
SHAPE = (8, 3, 112, 112)


def trainer(backend, devices=None):
    graph = runnable(get_symbol("vargfacenet", **TINY), for_training=True, backend=backend)
    graph = margin_softmax(graph, mx.sym.var("softmax_label"), num_identities=4, embedding_size=16, m2=0.1, scale=8)
    mx.random.seed(3)
    inputs = {"data": {"data": SHAPE}, "labels": {"softmax_label": SHAPE[:1]}}
    runtime = Runtime(devices or [mx.cpu()])
    return Trainer(objective(identity=graph), **inputs, sgd=SGD(lambda update: 1e-3), runtime=runtime)


@functools.cache
def batch(update):
    label = np.arange(SHAPE[0]) % 4
    images = [image(identity, 8 * update + place) for place, identity in enumerate(label)]
    return mx.io.DataBatch([mx.nd.array(np.stack(images).transpose(0, 3, 1, 2))], [mx.nd.array(label)])


def losses(trained, updates):
    return np.array([trained.step(batch(update)).outputs["loss"].mean() for update in range(updates)])


def test_twelve_updates_give_the_losses_of_basic_operators():
    """Slopes start at 1: at a kink, rounding that turns one activation the other way soon changes everything."""
    native, basic = trainer("native"), trainer("basic")
    start = {name: value * 0 + 1 if name.endswith("act_gamma") else value for name, value in basic.state().items()}
    native.load_state(start)
    basic.load_state(start)
    found, expected = losses(native, 12), losses(basic, 12)
    assert expected[-1] < 0.1 * expected[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    for one, other in zip(native.parameters(), basic.parameters()):
        assert one.keys() == other.keys()
        for name, value in other.items():
            np.testing.assert_allclose(one[name].asnumpy(), value.asnumpy(), rtol=1e-3, atol=1e-3, err_msg=name)


def test_updates_are_the_same_bits_each_time():
    first, second = trainer("native"), trainer("native")
    second.load_state(first.state())
    np.testing.assert_array_equal(losses(first, 3), losses(second, 3))
    for one, other in zip(first.parameters(), second.parameters()):
        for name, value in other.items():
            np.testing.assert_array_equal(one[name].asnumpy(), value.asnumpy(), err_msg=name)


def test_several_cpu_contexts_train():
    two = trainer("native", [mx.cpu(0), mx.cpu(1)])
    assert np.isfinite(losses(two, 2)).all()
