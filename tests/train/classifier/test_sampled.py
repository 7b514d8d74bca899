"""The sampled classifier: who takes part, what is computed of them, and that the rest stays as it is."""

import mxnet as mx
import numpy as np
import pytest

from tests.train.classifier.dense import MARGINS, DenseClassifier, sharded
from vargfacenet.train.classifier import Sampling, shard
from vargfacenet.train.classifier.identities import shard_bounds
from vargfacenet.train.classifier.sampling import sample_rows

IDENTITIES, SIZE, BATCH = 61, 8, 6


def problem(margins=None, seed=0):
    random = np.random.RandomState(seed)
    arrays = {"weight": random.normal(size=(IDENTITIES, SIZE)).astype(np.float32)}
    if margins is None:
        arrays["bias"] = random.normal(size=IDENTITIES).astype(np.float32)
    label = random.randint(0, IDENTITIES, BATCH)
    embedding = random.normal(size=(BATCH, SIZE)) + arrays["weight"][label]
    return arrays, embedding.astype(np.float32), label


def taking_part(label, rate, devices, update, seed=0):
    """The identities that take part, all shards together."""
    bounds, found = shard_bounds(IDENTITIES, devices), []
    for start, stop in zip(bounds, bounds[1:]):
        local = label[(label >= start) & (label < stop)] - start
        found.append(start + sample_rows(stop - start, rate, local, seed=seed, update=update, start=start))
    return np.concatenate(found)


def test_positives_take_part_and_negatives_fill_up():
    for update in range(50):
        positives = np.random.RandomState(update).randint(0, 1000, 20)
        rows = sample_rows(1000, 0.1, positives, seed=0, update=update, start=0)
        assert set(positives) <= set(rows)
        assert len(rows) == 100
        assert (np.diff(rows) > 0).all()
        assert 0 <= rows[0] <= rows[-1] < 1000


def test_where_the_batch_has_more_identities_than_the_share_all_of_them_take_part():
    rows = sample_rows(100, 0.05, np.array([7, 3, 3, 99, 50, 1, 2, 8]), seed=0, update=0, start=0)
    np.testing.assert_array_equal(rows, [1, 2, 3, 7, 8, 50, 99])


def test_each_negative_is_drawn_as_often_as_the_others():
    positives, counts, draws = np.array([5, 11]), np.zeros(40), 4000
    for update in range(draws):
        counts[sample_rows(40, 0.25, positives, seed=1, update=update, start=0)] += 1
    assert (counts[positives] == draws).all()
    share = np.delete(counts, positives) / draws
    expected = 8 / 38
    assert np.abs(share - expected).max() < 5 * np.sqrt(expected * (1 - expected) / draws)


def test_the_sample_depends_on_seed_update_and_shard_alone():
    def draw(**changes):
        return sample_rows(1000, 0.1, np.array([1]), **{"seed": 3, "update": 7, "start": 500, **changes})

    np.testing.assert_array_equal(draw(), draw())
    for changes in ({"seed": 4}, {"update": 8}, {"start": 0}):
        assert len(np.setdiff1d(draw(**changes), draw())) > 50


@pytest.mark.parametrize("margins", MARGINS)
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_it_is_the_dense_head_of_those_that_take_part(margins, devices, monkeypatch):
    monkeypatch.setattr(shard, "BLOCK", 4)
    arrays, embedding, label = problem(margins)
    rows = taking_part(label, 0.3, devices, update=5)
    assert len(rows) < 0.4 * IDENTITIES
    dense = DenseClassifier({name: values[rows] for name, values in arrays.items()}, margins, BATCH)
    expected = dense.step(embedding, np.searchsorted(rows, label))
    sgd = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    classifier = sharded(arrays, margins, devices, sampling=Sampling(0.3, updates_before=2), **sgd)
    found = [array.asnumpy() for array in classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=3)]
    for array, other in zip(found, expected):
        np.testing.assert_allclose(array, other, rtol=0, atol=1e-5 * max(1, np.abs(other).max()))
    state = classifier.state()
    for name, before in arrays.items():
        moved = before - state[f"arg:fc7_{name}/0"].asnumpy().reshape(before.shape)
        gradient = dense.gradients[f"fc7_{name}"].asnumpy()
        np.testing.assert_allclose(moved[rows], gradient, rtol=0, atol=1e-5 * max(1, np.abs(gradient).max()))
        assert not np.delete(moved, rows, axis=0).any()


def test_momentum_moves_with_its_rows_and_decay_touches_those_that_take_part_alone():
    """Against SGD in NumPy on the gradients that the dense head gives, over updates that take different rows."""
    arrays, _, _ = problem({})
    margins = {"scale": 16.0}
    weight, momentum = arrays["weight"].astype(np.float64), np.zeros((IDENTITIES, SIZE))
    options = {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.1, "rescale": 0.5}
    classifier = sharded(arrays, margins, 2, sampling=Sampling(0.3, seed=9), **options)
    taken = []
    for update in range(1, 6):
        _, embedding, label = problem({}, seed=update)
        rows = taking_part(label, 0.3, 2, update, seed=9)
        dense = DenseClassifier({"weight": weight[rows].astype(np.float32)}, margins, BATCH)
        dense.step(embedding, np.searchsorted(rows, label))
        gradient = 0.5 * dense.gradients["fc7_weight"].asnumpy() + 0.1 * weight[rows]
        momentum[rows] = 0.9 * momentum[rows] - 0.2 * gradient
        weight[rows] += momentum[rows]
        classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=update)
        taken.append(set(rows))
    assert taken[0] != taken[1]
    state = classifier.state()
    np.testing.assert_allclose(state["arg:fc7_weight/0"].asnumpy(), weight, rtol=0, atol=1e-5)
    np.testing.assert_allclose(state["momentum:fc7_weight/0"].asnumpy(), momentum, rtol=0, atol=1e-5)


def test_rows_named_one_by_one_compute_what_all_rows_do(monkeypatch):
    monkeypatch.setattr(shard, "BLOCK", 16)
    arrays, embedding, label = problem({})
    states = []
    for rows in (None, np.arange(IDENTITIES, dtype=np.int32)):
        classifier = sharded(arrays, {}, lr=0.1)
        monkeypatch.setattr(classifier, "_rows", lambda *_, rows=rows: rows)
        for update in (1, 2):
            classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=update)
        states.append(classifier.state())
    for name, value in states[0].items():
        np.testing.assert_array_equal(value.asnumpy(), states[1][name].asnumpy())
