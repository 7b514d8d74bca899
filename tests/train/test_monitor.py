"""Warnings of what will come to nothing, on embeddings placed by hand and on whole runs."""

import logging
import math

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.training import tiny
from vargfacenet.data.writer import write_records
from vargfacenet.errors import TrainingError
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.train.callback import UpdateResult
from vargfacenet.train.engine import StepResult
from vargfacenet.train.loop import fit
from vargfacenet.train.monitor import Ignorance, Monitor, ignorance
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.run import train
from vargfacenet.train.trainer import Trainer

IDENTITIES, BATCH, SIZE = 50, 32, 16


def watched(caplog, updates, embed, *, loss=3.0, accuracy=0.5, labels=None, warmup_updates=0):
    """What is said while `embed` (identities and a generator -> (N, SIZE)) gives the embeddings."""
    random = np.random.RandomState(0)
    monitor = Monitor(320, BATCH, Ignorance(IDENTITIES, math.log(IDENTITIES)), warmup_updates=warmup_updates)
    with caplog.at_level(logging.WARNING):
        for update in range(1, updates + 1):
            true = random.randint(0, IDENTITIES, BATCH)
            embedding = embed(true, random).astype(np.float32)
            step = StepResult({}, embedding, [random.permutation(true) if labels == "shuffled" else true])
            monitor.after_update(UpdateResult(update, {"loss": loss, "accuracy": accuracy}, 0.0, step))
    return [record.getMessage() for record in caplog.records]


def faces(true, random):
    """Of one identity they are a little alike: a mean cosine of some 0.1."""
    centres = np.random.RandomState(1).normal(size=(IDENTITIES, SIZE))
    return 0.35 * centres[true] + random.normal(size=(len(true), SIZE))


def test_a_sound_run_is_left_alone(caplog):
    assert watched(caplog, 600, faces) == []


def test_collapsed_embeddings_are_told_once_with_their_cosine(caplog):
    said = watched(caplog, 60, lambda true, random: 1 + 0.1 * random.normal(size=(len(true), SIZE)))
    assert len(said) == 1
    assert said[0].startswith("update 20: embeddings collapse: the mean cosine of two images of a batch was 0.9")


def test_vanishing_embeddings_are_told(caplog):
    said = watched(caplog, 60, lambda true, random: 1e-4 * faces(true, random))
    assert len(said) == 1
    assert "update 20: embeddings vanish: the root mean square of their numbers was 0.0001" in said[0]


def test_shuffled_labels_are_told(caplog):
    said = watched(caplog, 600, faces, labels="shuffled")
    assert len(said) == 1
    assert "labels look shuffled: in 10" in said[0]


def test_a_loss_that_is_stuck_is_told_with_what_ignorance_comes_to(caplog):
    said = watched(caplog, 240, faces, loss=3.9, accuracy=0.02, warmup_updates=5)
    assert len(said) == 1
    assert said[0].startswith("update 105: the loss is stuck: 3.900 over 100 updates")
    assert "a network that knows nothing has at least 3.912 (ln(50) = 3.912, and the margin)" in said[0]
    assert "nearest for 2.000% of 3200 images, by chance for 2.000%" in said[0]
    assert watched(caplog, 99, faces, loss=3.9, accuracy=0.02) == said  # and none before it is time


def test_a_high_loss_of_which_something_is_learned_is_left_alone(caplog):
    assert watched(caplog, 120, faces, loss=3.9, accuracy=0.08) == []


def test_what_ignorance_comes_to():
    assert ignorance(tiny(loss="softmax"), 50).loss == pytest.approx(math.log(50))
    assert ignorance(tiny("small_student"), 50) is None  # has no classifier
    for scale, m2 in ((32.0, 0.3), (64.0, 0.5)):
        # The margin takes least at the angle pi - m2 / 2, where it goes round pi.
        expected = math.log(1 + 49 * math.exp(scale * (2 - 2 * math.cos(m2 / 2))))
        assert ignorance(tiny(scale=scale, m2=m2), 50).loss == pytest.approx(expected, rel=1e-3)
    half = ignorance(tiny(loss="softmax", head="sharded", sample_rate=0.5), 50)
    assert half.identities == 25


@pytest.mark.slow
def test_a_run_with_shuffled_labels_says_so_and_the_same_run_with_true_ones_does_not(tmp_path, caplog):
    random = np.random.RandomState(0)
    labels = np.repeat(np.arange(40), 5)
    for name, given in (("true", labels), ("shuffled", random.permutation(labels))):
        images = (encode_jpeg(image(identity, number)) for number, identity in enumerate(labels))
        write_records(tmp_path / name, sorted(zip(given.tolist(), images)))
        caplog.clear()
        config = tiny(batch_size=40, max_updates=60, save_every=60, color_jitter=0)
        with caplog.at_level(logging.WARNING):
            train(config, data=tmp_path / name, out=tmp_path / f"{name} run")
        said = [record.getMessage() for record in caplog.records]
        assert any("labels look shuffled" in line for line in said) == (name == "shuffled"), said


# What is not finite.


def fault_of(symbol, data, label=None):
    """What `fit` says of a graph trained on (N, D) numbers."""
    trainer = Trainer(
        symbol,
        data={"data": data.shape},
        labels={},
        sgd=SGD(lambda update: 0.1),
    )
    before = {name: value.asnumpy() for name, value in trainer.parameters()[0].items()}
    batch = mx.io.DataBatch([data], [])
    with pytest.raises(TrainingError) as caught:
        fit(trainer, lambda: batch, range(1, 4), reseed=lambda update: None)
    for name, value in trainer.parameters()[0].items():
        np.testing.assert_array_equal(value.asnumpy(), before[name])  # the update was not made
    return str(caught.value)


def layers():
    return mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="first")


def test_the_operator_that_made_the_first_number_that_is_not_finite_is_named():
    loss = mx.sym.log(-1 - mx.sym.abs(layers()), name="bad_log")
    loss = mx.sym.MakeLoss(mx.sym.sum(loss, axis=1), name="loss")
    said = fault_of(loss, mx.nd.ones((2, 3)))
    assert "update 1: the loss is nan at learning rate 0.1; first not finite: the output of bad_log (log)" in said
    assert "Try a smaller lr (--set lr=0.01)" in said


def test_an_input_that_is_not_finite_is_named():
    loss = mx.sym.MakeLoss(mx.sym.sum(layers(), axis=1), name="loss")
    assert "first not finite: the input data" in fault_of(loss, mx.nd.array([[1, np.nan, 2], [1, 1, 1]]))


def test_a_gradient_that_is_not_finite_is_named_with_its_layer():
    """The square root of 0 is finite, and its slope is not."""
    hidden = mx.sym.FullyConnected(mx.sym.Activation(layers(), act_type="relu"), num_hidden=2, name="second")
    loss = mx.sym.MakeLoss(mx.sym.sum(mx.sym.sqrt(0 * hidden, name="root"), axis=1), name="loss")
    said = fault_of(loss, mx.nd.ones((2, 3)))
    assert "update 1: the loss is finite, its gradient is not, at learning rate 0.1" in said
    assert "first not finite: in the backward pass, the gradient of second_bias at second (FullyConnected)" in said or (
        "the gradient of second_weight at second (FullyConnected)" in said
    )


def test_a_loss_that_is_not_finite_outside_of_the_graph_is_said_to_be(face_folder, tmp_path, monkeypatch):
    def step(self, embedding, label, **_):
        return mx.nd.full(8, np.inf), mx.nd.zeros(8), mx.nd.zeros_like(embedding)

    monkeypatch.setattr("vargfacenet.train.classifier.ShardedClassifier.step", step)
    with pytest.raises(
        TrainingError, match="the loss is inf .* first not finite: the loss of the classifier outside of"
    ):
        train(tiny(head="sharded"), data=face_folder, out=tmp_path)
