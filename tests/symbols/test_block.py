"""Checkpoints as Gluon blocks."""

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import CheckpointError
from vargfacenet.formats.checkpoint import save_checkpoint
from vargfacenet.symbols import get_symbol, load_block


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    symbol = get_symbol("vargfacenet", multiplier=0.25, embedding_size=32)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, 3, 112, 112))], for_training=False)
    module.init_params(mx.init.Xavier())
    prefix = tmp_path_factory.mktemp("block") / "model"
    save_checkpoint(prefix, 0, symbol, *module.get_params())
    return prefix


def test_block_gives_what_the_plain_graph_gives(prefix):
    data = np.random.RandomState(0).uniform(0, 255, (2, 3, 112, 112))
    symbol, args, auxs = mx.model.load_checkpoint(str(prefix), 0)
    executor = symbol.bind(mx.cpu(), {**args, "data": mx.nd.array(data)}, aux_states=auxs)
    expected = executor.forward(is_train=False)[0].asnumpy()
    found = load_block(prefix, 0)(mx.nd.array(data)).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_block_runs_again_and_again_at_any_batch(prefix, batch):
    block = load_block(prefix, 0)
    data = mx.nd.array(np.random.RandomState(0).uniform(0, 255, (batch, 3, 112, 112)))
    first = block(data).asnumpy()
    for _ in range(3):
        np.testing.assert_allclose(block(data).asnumpy(), first, rtol=1e-4, atol=1e-5)


def test_block_can_be_trained(prefix):
    block = load_block(prefix, 0)
    trainer = mx.gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": 0.01})
    data = mx.nd.array(np.random.RandomState(0).uniform(0, 255, (4, 3, 112, 112)))
    losses = []
    for _ in range(5):
        with mx.autograd.record():
            loss = ((block(data) - 1) ** 2).mean(axis=1)
        loss.backward()
        trainer.step(4)
        losses.append(float(loss.mean().asscalar()))
    assert losses[-1] < losses[0]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint file .*nothing-symbol.json"):
        load_block(tmp_path / "nothing", 0)
