"""Every margin loss on a classifier in shards, sampled or not, against the head of a graph."""

import dataclasses
import typing

import mxnet as mx
import numpy as np
import pytest

from tests.symbols.margins import reference
from tests.train.classifier.workers import run_workers
from vargfacenet.errors import CheckpointError
from vargfacenet.symbols.margins import (
    MARGINS,
    TEACHER_MARGINS,
    CosineHead,
    MarginLoss,
    adadistill,
    get_margin,
    margin_head,
)
from vargfacenet.symbols.objective import objective
from vargfacenet.train.classifier import Sampling, ShardedClassifier, shard
from vargfacenet.train.classifier.identities import shard_bounds
from vargfacenet.train.classifier.sampling import sample_rows
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime

IDENTITIES, SIZE, BATCH, SEED, UPDATE = 23, 8, 12, 5, 3
OPTIONS = {"magface": {"norm_low": 1.0, "norm_high": 9.0}}
NAMES = [*MARGINS, *TEACHER_MARGINS]


def problem(centres=1):
    random = np.random.RandomState(0)
    weight = random.normal(size=(IDENTITIES * centres, SIZE)).astype(np.float32)
    label = random.randint(0, IDENTITIES, BATCH)
    label[1] = label[0]
    near = (np.arange(BATCH) % 2)[:, None] * weight[label * centres]
    embedding = random.normal(size=(BATCH, SIZE)) + 2 * near
    teacher = random.normal(size=(BATCH, SIZE)) + weight[label * centres]
    return weight, embedding.astype(np.float32), teacher.astype(np.float32), label


def dense(name, weight, embedding, teacher, label, centres=1, scale=16.0):
    """Loss, correctness, gradients of embedding and weight, and moving means: what the graph computes."""
    margin = get_margin(name, **OPTIONS.get(name, {}))
    identities = len(weight) // centres
    head = margin_head(
        mx.sym.var("embedding"),
        mx.sym.var("label"),
        CosineHead(margin, scale, centres),
        num_identities=identities,
        embedding_size=SIZE,
        draw=mx.sym.var("draw"),
        teacher=mx.sym.var("teacher"),
    )
    given = {"embedding": embedding, "fc7_weight": weight, "label": label}
    if margin.draws:
        given["draw"] = margin.draw(BATCH, seed=SEED, update=UPDATE)
    if margin.reads_teacher:
        given["teacher"] = teacher
    arrays = {key: mx.nd.array(value) for key, value in given.items()}
    gradients = {key: mx.nd.zeros_like(value) for key, value in arrays.items()}
    states = {f"fc7_{state}": mx.nd.array([value]) for state, value in margin.states.items()}
    executor = objective(identity=head).bind(mx.cpu(), arrays, args_grad=gradients, aux_states=states)
    loss, correct = executor.forward(is_train=True)
    executor.backward()
    mx.nd.waitall()
    return (
        loss.asnumpy(),
        correct.asnumpy(),
        gradients["embedding"].asnumpy(),
        gradients["fc7_weight"].asnumpy(),
        {key: value.asnumpy() for key, value in states.items()},
    )


def sharded(name, weight, devices, centres=1, *, rate=1.0, cluster=ALONE, momentum=0.0, weight_decay=0.0, **head):
    classifier = ShardedClassifier(
        num_identities=IDENTITIES,
        embedding_size=SIZE,
        sgd=SGD(lambda update: 1.0, momentum, weight_decay),
        margin=CosineHead(get_margin(name, **OPTIONS.get(name, {})), 16.0, centres, **head),
        sampling=Sampling(rate, SEED),
        runtime=Runtime([mx.cpu(number) for number in range(devices)], cluster),
    )
    state = {"arg:fc7_weight/0": mx.nd.array(weight.reshape((IDENTITIES, -1)))}
    return classifier, {**classifier.state(), **state}


def stepped(classifier, embedding, teacher, label):
    """Loss, correctness and gradient of one update, and the state after it."""
    arrays = classifier.step(mx.nd.array(embedding), mx.nd.array(label), update=UPDATE, teacher=mx.nd.array(teacher))
    return [array.asnumpy() for array in arrays], classifier.state()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("block", [4, shard.BLOCK])
def test_each_loss_is_that_of_the_dense_head(monkeypatch, name, devices, block):
    monkeypatch.setattr(shard, "BLOCK", block)
    weight, embedding, teacher, label = problem()
    loss, correct, by_embedding, by_weight, states = dense(name, weight, embedding, teacher, label)
    classifier, state = sharded(name, weight, devices)
    classifier.load_state(state)
    found, after = stepped(classifier, embedding, teacher, label)
    close(found[0], loss)
    np.testing.assert_array_equal(found[1], correct)
    assert 0 < correct.sum() < BATCH
    close(found[2], by_embedding)
    close(weight - after["arg:fc7_weight/0"].asnumpy(), by_weight)
    for key, value in states.items():
        close(after[f"aux:{key}"].asnumpy(), value)


@pytest.mark.parametrize("name", ["subcentre", "curricularface"])
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("block", [4, shard.BLOCK])
def test_sub_centres_are_those_of_the_dense_head(monkeypatch, name, devices, block):
    monkeypatch.setattr(shard, "BLOCK", block)
    weight, embedding, teacher, label = problem(centres=3)
    loss, correct, by_embedding, by_weight, _ = dense(name, weight, embedding, teacher, label, centres=3)
    classifier, state = sharded(name, weight, devices, centres=3)
    classifier.load_state(state)
    found, after = stepped(classifier, embedding, teacher, label)
    close(found[0], loss)
    np.testing.assert_array_equal(found[1], correct)
    close(found[2], by_embedding)
    close(weight - after["arg:fc7_weight/0"].asnumpy().reshape(weight.shape), by_weight)


def taking_part(label, devices, rate=0.3):
    bounds, found = shard_bounds(IDENTITIES, devices), []
    for start, stop in zip(bounds, bounds[1:]):
        local = label[(label >= start) & (label < stop)] - start
        found.append(start + sample_rows(stop - start, rate, local, seed=SEED, update=UPDATE, start=start))
    return np.concatenate(found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("centres", [1, 2])
def test_a_sample_is_the_dense_head_of_those_that_take_part(monkeypatch, name, centres):
    monkeypatch.setattr(shard, "BLOCK", 4)
    weight, embedding, teacher, label = problem(centres)
    label = np.where(label > 6, label % 7, label)  # few identities, so that some are left out
    rows = taking_part(label, 2)
    assert len(rows) < 0.7 * IDENTITIES
    by_identity = weight.reshape((IDENTITIES, centres, SIZE))
    expected = dense(
        name, by_identity[rows].reshape((-1, SIZE)), embedding, teacher, np.searchsorted(rows, label), centres
    )
    classifier, state = sharded(name, weight, 2, centres, rate=0.3)
    classifier.load_state(state)
    found, after = stepped(classifier, embedding, teacher, label)
    for array, other in zip(found, expected):
        close(array, other)
    moved = by_identity - after["arg:fc7_weight/0"].asnumpy().reshape(by_identity.shape)
    close(moved[rows].reshape((-1, SIZE)), expected[3])
    assert not np.delete(moved, rows, axis=0).any()


@pytest.mark.parametrize("name", ["adaface", "curricularface", "elasticface_arc_plus", "magface"])
def test_two_workers_compute_what_one_does(name):
    weight, embedding, teacher, label = problem()
    one, state = sharded(name, weight, 2)
    one.load_state(state)
    expected, after = stepped(one, embedding, teacher, label)

    def work(cluster):
        own = slice(cluster.rank * BATCH // 2, (cluster.rank + 1) * BATCH // 2)
        classifier, _ = sharded(name, weight, 1, cluster=cluster)
        classifier.load_state(state)
        return stepped(classifier, embedding[own], teacher[own], label[own])

    parts = run_workers(2, work)
    for number, value in enumerate(expected):
        close(np.concatenate([found[number] for found, _ in parts]), value)
    for _, told in parts:
        assert set(told) == set(after)
        for key, value in after.items():
            close(told[key].asnumpy(), value.asnumpy())


def test_a_frozen_classifier_stays_as_it_is_to_the_last_bit():
    weight, embedding, teacher, label = problem()
    classifier, state = sharded("margin_distillation", weight, 2, frozen=True, momentum=0.9, weight_decay=0.1)
    classifier.load_state(state)
    (_, _, gradient), after = stepped(classifier, embedding, teacher, label)
    assert gradient.any()
    np.testing.assert_array_equal(after["arg:fc7_weight/0"].asnumpy(), weight)


@pytest.mark.parametrize("devices", [1, 3])
def test_adadistills_centres_are_those_of_the_graph(devices):
    weight, embedding, teacher, label = problem()
    student, other, identity = mx.sym.var("student"), mx.sym.var("teacher"), mx.sym.var("label")
    graph = adadistill(student, identity, other, num_identities=IDENTITIES, embedding_size=SIZE, scale=16.0)
    arrays = {"student": mx.nd.array(embedding), "teacher": mx.nd.array(teacher), "label": mx.nd.array(label)}
    gradients = {key: mx.nd.zeros_like(value) for key, value in arrays.items()}
    centres = {"fc7_centres": mx.nd.array(weight)}
    executor = objective(identity=graph).bind(mx.cpu(), arrays, gradients, aux_states=centres)
    loss = executor.forward(is_train=True)[0].asnumpy()
    executor.backward()
    mx.nd.waitall()
    classifier, state = sharded("arcdistill", weight, devices, follows=True)
    classifier.load_state(state)
    found, after = stepped(classifier, embedding, teacher, label)
    close(found[0], loss)
    close(found[2], gradients["student"].asnumpy())
    close(after["arg:fc7_weight/0"].asnumpy(), centres["fc7_centres"].asnumpy())


def test_a_state_without_the_moving_means_is_refused():
    weight, _, _, _ = problem()
    classifier, state = sharded("adaface", weight, 1)
    del state["aux:fc7_norm_mean"]
    with pytest.raises(CheckpointError, match="lacks aux:fc7_norm_mean of the margin loss; was it saved with another"):
        classifier.load_state(state)


@dataclasses.dataclass(frozen=True)
class Quadratic(MarginLoss):
    """A margin loss of somebody else's: a margin by the square of the angle, and a carried mean of the lengths."""

    factor: float = 0.1

    states: typing.ClassVar[dict] = {"length": 3.0}

    def observed(self, samples, *, operators):
        return (operators.mean(samples.norm),)

    def target(self, samples, state, *, operators):
        angle = operators.arccos(operators.clip(samples.cosine, -0.999, 0.999))
        return operators.broadcast_sub(samples.cosine - self.factor * angle * angle, 0.01 * state[0])


def test_a_loss_from_outside_computes_the_same_in_the_graph_and_in_shards(monkeypatch):
    weight, embedding, teacher, label = problem()
    monkeypatch.setitem(globals(), "get_margin", lambda name, **options: Quadratic(**options))
    loss, correct, by_embedding, by_weight, states = dense("quadratic", weight, embedding, teacher, label)
    classifier, state = sharded("quadratic", weight, 2)
    classifier.load_state(state)
    found, after = stepped(classifier, embedding, teacher, label)
    for array, other in zip(found, (loss, correct, by_embedding)):
        close(array, other)
    close(weight - after["arg:fc7_weight/0"].asnumpy(), by_weight)
    close(after["aux:fc7_length"].asnumpy(), states["fc7_length"])
    # Against the formula itself.
    cosines = reference.cosines_of(embedding, weight)
    length = 0.99 * 3 + 0.01 * np.linalg.norm(embedding, axis=1).mean()
    own = cosines[np.arange(BATCH), label]
    targets = own - 0.1 * np.arccos(np.clip(own, -0.999, 0.999)) ** 2 - 0.01 * length
    close(loss, reference.cross_entropy(16 * reference.with_targets(cosines, label, targets), label))
