"""The classifier in shards against the one in the graph."""

import mxnet as mx
import numpy as np
import pytest

from tests.train.classifier.dense import MARGINS, DenseClassifier, sharded
from tests.train.classifier.workers import run_workers
from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.train.classifier import ShardedClassifier, identities, shard
from vargfacenet.train.classifier.identities import shard_bounds
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime

IDENTITIES, SIZE, BATCH = 23, 16, 12  # 23 divides neither by 2 nor by 3
GRADIENTS = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}  # with a learning rate of 1 the update is the gradient
TENTH = SGD(lambda update: 0.1)


def problem(margins, seed=0):
    random = np.random.RandomState(seed)
    arrays = {"weight": random.normal(size=(IDENTITIES, SIZE)).astype(np.float32)}
    if margins is None:
        arrays["bias"] = random.normal(size=IDENTITIES).astype(np.float32)
    label = random.randint(0, IDENTITIES, BATCH)
    label[1] = label[0]
    # Some near their identities and some anywhere, so that both true and false answers occur.
    embedding = random.normal(size=(BATCH, SIZE)) + 2 * (np.arange(BATCH) % 2)[:, None] * arrays["weight"][label]
    return arrays, embedding.astype(np.float32), label


def close(found, expected, *, scale=None):
    """Within 1e-5 of the largest entry."""
    scale = np.abs(expected).max() if scale is None else scale
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(scale, 1))


def weights(state, name="weight"):
    parts = [key for key in state if key.startswith(f"arg:fc7_{name}/")]
    return np.concatenate([state[key].asnumpy() for key in parts])


@pytest.mark.parametrize("margins", MARGINS)
@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("block", [4, shard.BLOCK])
def test_loss_and_gradients_are_those_of_the_dense_head(margins, devices, block, monkeypatch):
    monkeypatch.setattr(shard, "BLOCK", block)
    arrays, embedding, label = problem(margins)
    dense = DenseClassifier(arrays, margins, BATCH)
    expected = dense.step(embedding, label)
    classifier = sharded(arrays, margins, devices, **GRADIENTS)
    loss, correct, gradient = classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=1)
    close(loss.asnumpy(), expected[0])
    assert 0 < expected[1].sum() < BATCH
    np.testing.assert_array_equal(correct.asnumpy(), expected[1])
    close(gradient.asnumpy(), expected[2])
    state = classifier.state()
    for name, before in arrays.items():
        found = before.reshape((IDENTITIES, -1)) - weights(state, name)
        close(found, dense.gradients[f"fc7_{name}"].asnumpy().reshape(found.shape))


@pytest.mark.parametrize("margins", [{}, None])
@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_updates_are_those_of_mxnets_optimizer(margins, clip):
    arrays, _, _ = problem(margins)
    options = {"lr": lambda update: 0.1 / update, "momentum": 0.9, "clip_gradient": clip}
    dense = DenseClassifier(
        arrays, margins, BATCH, wd=0.05, rescale_grad=1 / BATCH, momentum=0.9, clip_gradient=clip or None
    )
    classifier = sharded(arrays, margins, 2, weight_decay=0.05, rescale=1 / BATCH, **options)
    for update in range(1, 5):
        _, embedding, label = problem(margins, seed=update)
        dense.step(embedding, label, lr=0.1 / update)
        classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=update)
    state = classifier.state()
    for name, before in arrays.items():
        expected = dense.arrays[f"fc7_{name}"].asnumpy().reshape((IDENTITIES, -1))
        assert np.abs(expected - before.reshape(expected.shape)).max() > 1e-3
        np.testing.assert_allclose(weights(state, name), expected, rtol=0, atol=1e-5)
        momentum = state[f"momentum:fc7_{name}/0"].asnumpy()
        np.testing.assert_allclose(momentum, dense.momentum(f"fc7_{name}").reshape(momentum.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("margins", [{}, None])
@pytest.mark.parametrize(("workers", "devices"), [(2, 1), (3, 1), (2, 2)])
def test_workers_together_compute_what_one_does(margins, workers, devices):
    arrays, embedding, label = problem(margins)
    dense = DenseClassifier(arrays, margins, BATCH)
    expected = dense.step(embedding, label)
    share = BATCH // workers

    def work(cluster):
        classifier = sharded(arrays, margins, devices, cluster=cluster, **GRADIENTS)
        own = slice(cluster.rank * share, (cluster.rank + 1) * share)
        found = classifier.step(mx.nd.array(embedding[own]), mx.nd.array(label[own]), update=1)
        return [array.asnumpy() for array in found], classifier.state()

    results = run_workers(workers, work)
    for place, values in enumerate(expected):
        close(np.concatenate([found[place] for found, _ in results]), values)
    for _, state in results:  # each worker is given all of it
        for name, before in arrays.items():
            found = before.reshape((IDENTITIES, -1)) - weights(state, name)
            close(found, dense.gradients[f"fc7_{name}"].asnumpy().reshape(found.shape))


def test_what_workers_exchange_does_not_grow_with_the_identities():
    def work(cluster):
        seen = []
        for count in (20, 2000):
            classifier = ShardedClassifier(
                num_identities=count, embedding_size=SIZE, sgd=TENTH, runtime=Runtime(cluster=cluster)
            )
            classifier.initialise(0)
            before = len(cluster.names)
            classifier.step(mx.nd.ones((4, SIZE)), mx.nd.array([0, 1, 2, 3]), update=1)
            seen.append(cluster.names[before:])
        return seen

    few, many = run_workers(2, work)[0]
    assert few == many
    assert len(few) == 4


def test_embeddings_of_length_zero_and_huge_ones_leave_everything_finite():
    arrays, embedding, label = problem({})
    embedding[0], embedding[1] = 0, 1e18
    classifier = sharded(arrays, {}, 2, lr=0.1)
    for array in classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=1):
        assert np.isfinite(array.asnumpy()).all()
    assert np.isfinite(weights(classifier.state())).all()


@pytest.mark.parametrize(("count", "number"), [(23, 1), (23, 2), (23, 3), (7, 7), (93_431, 32)])
def test_shards_cover_the_identities_and_differ_by_one_at_most(count, number):
    bounds = shard_bounds(count, number)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1], len(sizes)) == (0, count, number)
    assert 0 < sizes.min() <= sizes.max() <= sizes.min() + 1


def test_a_state_fits_another_number_of_devices(monkeypatch):
    monkeypatch.setattr(identities, "PART", 5)
    _, embedding, label = problem({})
    two, three = (
        ShardedClassifier(
            num_identities=IDENTITIES,
            embedding_size=SIZE,
            sgd=TENTH,
            runtime=Runtime([mx.cpu(number) for number in range(count)]),
        )
        for count in (2, 3)
    )
    three.initialise(1)
    three.step(mx.nd.array(embedding), mx.nd.array(label), update=1)
    state = three.state()
    assert len(state) == 4 * 5  # weight and bias, and their momenta
    two.load_state(state)
    again = two.state()
    assert set(again) == set(state)
    for name in state:
        np.testing.assert_array_equal(again[name].asnumpy(), state[name].asnumpy())
    assert np.abs(weights(state)).max() > 0


def test_a_state_without_momentum_begins_with_none():
    arrays, embedding, label = problem({})
    classifier = sharded(arrays, {}, lr=0.1)
    classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=1)
    state = {name: value.copy() for name, value in classifier.state().items()}
    assert state.pop("momentum:fc7_weight/0").asnumpy().any()
    classifier.load_state(state)
    assert not classifier.state()["momentum:fc7_weight/0"].asnumpy().any()


def test_a_state_that_does_not_fit_is_refused():
    arrays, _, _ = problem({})
    classifier = sharded(arrays, {})
    with pytest.raises(CheckpointError, match="lacks arg:fc7_weight/0 of the classifier"):
        classifier.load_state({})
    with pytest.raises(CheckpointError, match=r"fc7_weight/0 has shape \(22, 16\), expected \(23, 16\)"):
        classifier.load_state({"arg:fc7_weight/0": mx.nd.zeros((22, 16))})


def test_first_weights_depend_on_the_seed_and_not_on_the_devices():
    drawn = {}
    for devices, seed in ((1, 0), (3, 0), (1, 1)):
        classifier = ShardedClassifier(
            num_identities=9000, embedding_size=8, sgd=TENTH, runtime=Runtime([mx.cpu(i) for i in range(devices)])
        )
        classifier.initialise(seed)
        drawn[devices, seed] = weights(classifier.state())
    np.testing.assert_array_equal(drawn[1, 0], drawn[3, 0])
    assert not np.array_equal(drawn[1, 0], drawn[1, 1])
    assert drawn[1, 0].std() == pytest.approx(np.sqrt(2 / 9000), rel=0.02)
    assert len(np.unique(drawn[1, 0][:, 0])) > 8900


def test_too_few_and_too_many_identities_are_refused():
    both = Runtime([mx.cpu(0), mx.cpu(1)])
    with pytest.raises(SettingError, match=r"1 identities in 2 shard\(s\)"):
        ShardedClassifier(num_identities=1, embedding_size=8, sgd=TENTH, runtime=both)
    with pytest.raises(SettingError, match="at most 16777216"):
        ShardedClassifier(num_identities=2**24 + 1, embedding_size=8, sgd=TENTH, runtime=both)
