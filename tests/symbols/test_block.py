"""Checkpoints as Gluon blocks."""

import mxnet as mx
import numpy as np
import pytest

from tests.symbols.margins.graph import head, run
from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.formats.checkpoint import save_checkpoint
from vargfacenet.symbols import distillation_block, get_symbol, load_block, loss_block, network_block
from vargfacenet.symbols.registry import LOSSES


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    symbol = get_symbol("vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=32)
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


def test_a_network_without_checkpoint_begins_as_in_the_trainer():
    mx.random.seed(3)
    block = network_block("vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=16)
    symbol = get_symbol("vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=16)
    names = {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {"data"}
    values = {name: parameter.data().asnumpy() for name, parameter in block.collect_params().items()}
    assert set(values) == names
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, 3, 112, 112))])
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
    args, auxs = module.get_params()
    for name, expected in {**args, **auxs}.items():
        expected = expected.asnumpy()
        if np.ptp(expected) == 0:
            np.testing.assert_array_equal(values[name], expected, err_msg=name)
        else:
            assert values[name].std() == pytest.approx(expected.std(), rel=0.5), name
    assert values["vargface_head_conv1_act_gamma"].tolist() == [0.25] * 8
    mx.random.seed(3)
    again = network_block("vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=16)
    for name, parameter in again.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), values[name])


@pytest.mark.parametrize("name", ["margin", "softmax"])
def test_a_loss_as_a_block_gives_what_its_graph_gives(name):
    random = np.random.RandomState(1)
    embedding, label = random.normal(size=(5, 8)).astype(np.float32), np.array([0, 3, 1, 1, 2], np.float32)
    options = {"scale": 8.0, "m2": 0.2} if name == "margin" else {}
    block = loss_block(name, num_identities=4, embedding_size=8, **options)
    inputs = [mx.nd.array(embedding), mx.nd.array(label)]
    inputs[0].attach_grad()
    with mx.autograd.record():
        loss, correct = block(*inputs)
    loss.backward()
    weight = block.collect_params()["fc7_weight"].data().asnumpy()
    assert weight.shape == (4, 8)
    if name == "margin":
        cosines = (embedding / np.linalg.norm(embedding, axis=1, keepdims=True)) @ (
            weight / np.linalg.norm(weight, axis=1, keepdims=True)
        ).T
        logits = 8 * cosines
        for row, own in enumerate(label.astype(int)):
            logits[row, own] = 8 * np.cos(np.arccos(cosines[row, own]) + 0.2)
    else:
        cosines = logits = embedding @ weight.T
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), label.astype(int)]
    np.testing.assert_allclose(loss.asnumpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(correct.asnumpy(), cosines.argmax(axis=1) == label)
    assert np.abs(inputs[0].grad.asnumpy()).max() > 0
    assert np.abs(block.collect_params()["fc7_weight"].grad().asnumpy()).max() > 0


@pytest.mark.parametrize("name", ["adaface", "elasticface_arc", "curricularface", "margin_distillation", "subcentre"])
def test_a_margin_loss_as_a_block_gives_what_its_head_gives(name):
    random = np.random.RandomState(1)
    arrays = {
        "embedding": 5 * random.normal(size=(5, 8)),
        "label": np.array([0, 3, 1, 1, 2]),
        "draw": random.normal(0.5, 0.1, 5),
        "teacher": random.normal(size=(5, 8)),
    }
    block = loss_block(name, num_identities=4, embedding_size=8, scale=8.0)
    given = {one: arrays[one] for one in LOSSES[name].inputs}
    parameters = block.collect_params().items()
    values = {key: one.data().asnumpy().copy() for key, one in parameters}
    with mx.autograd.record():
        loss, correct = block(*(mx.nd.array(value) for value in given.values()))
    loss.backward()
    symbol = head(name, identities=4, size=8, scale=8.0, centres=3 if name == "subcentre" else 1)
    states = {key: values.pop(key) for key in list(values) if key != "fc7_weight"}
    expected, hits, _, after = run(symbol, states, **given, **values)
    np.testing.assert_allclose(loss.asnumpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(correct.asnumpy(), hits)
    for key, value in after.items():
        np.testing.assert_allclose(block.collect_params()[key].data().asnumpy(), value, rtol=1e-6)


def test_a_distillation_loss_as_a_block():
    student = mx.nd.array([[3.0, 0.0], [1.0, 1.0]])
    teacher = mx.nd.array([[0.0, 2.0], [2.0, 2.0]])
    loss, cosine = distillation_block("angular", embedding_size=2)(student, teacher)
    np.testing.assert_allclose(loss.asnumpy(), [2, 0], atol=1e-5)
    np.testing.assert_allclose(cosine.asnumpy(), [0, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network_block("vargfacent"), "unknown network 'vargfacent': did you mean 'vargfacenet'"),
        (lambda: network_block("vargfacenet", multiplyer=1), "did you mean 'multiplier'"),
        (lambda: loss_block("margins", num_identities=2, embedding_size=2), "unknown loss 'margins'"),
        (lambda: loss_block("margin", num_identities=2, embedding_size=2, m2=3), "m2=3.0: expected between 0 and 1.6"),
        (lambda: distillation_block("cosine", embedding_size=2), "unknown distillation 'cosine'"),
    ],
)
def test_a_block_of_an_unknown_name_or_option_is_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()
