"""A trainer of another engine, in NumPy, driven by the same loop: what the interface asks for is enough."""

import types

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import TrainingError
from vargfacenet.train.callback import Callback
from vargfacenet.train.engine import NotFinite, StepResult, TrainerProtocol
from vargfacenet.train.loop import fit
from vargfacenet.train.stopping import NeverStopping

WEIGHTS = np.array([2.0, -1.0, 0.5], np.float32)


class LinearTrainer:
    """Linear regression by gradient descent."""

    def __init__(self):
        self.schedule = lambda update: 0.3
        self.weights, self.updates = np.zeros(3, np.float32), 0

    def step(self, batch):
        data, label = batch.data[0].asnumpy(), batch.label[0].asnumpy()
        errors = data @ self.weights - label
        if not np.isfinite(errors).all():
            raise NotFinite(float(np.mean(errors**2)), [])
        self.updates += 1
        self.weights = self.weights - self.schedule(self.updates) * data.T @ errors / len(label)
        return StepResult({"loss": errors**2 / 2, "size": np.abs(errors)}, None, [label])

    def parameters(self):
        return {"weights": mx.nd.array(self.weights)}, {}

    def set_parameters(self, args, auxs):
        self.weights = args["weights"].asnumpy()

    def state(self):
        return {"arg:weights": mx.nd.array(self.weights)}

    def load_state(self, state):
        self.weights = state["arg:weights"].asnumpy()

    def synchronise(self):
        pass

    def broadcast_state(self):
        pass

    def trace_nan(self, batch, fault):
        return "the input data"


class Recorder(Callback):
    def __init__(self, action=lambda result: None):
        self.results, self._action = [], action

    def after_update(self, result):
        self.results.append(result)
        self._action(result)


def batches(bad_at=None):
    random, count = np.random.RandomState(0), 0
    while True:
        count += 1
        data = random.normal(size=(16, 3)).astype(np.float32)
        label = data @ WEIGHTS if count != bad_at else np.full(16, np.nan)
        yield mx.io.DataBatch([mx.nd.array(data)], [mx.nd.array(label)])


def fitted(trainer: TrainerProtocol, updates, **options):
    seeds, source = [], batches(options.pop("bad_at", None))
    done = fit(trainer, lambda: next(source), updates, reseed=seeds.append, **options)
    return done, seeds


def test_the_loop_trains_any_trainer_and_tells_callbacks_what_it_computed():
    trainer, recorder = LinearTrainer(), Recorder()
    done, seeds = fitted(trainer, range(1, 61), callbacks=[recorder])
    assert done == 60
    assert seeds == list(range(60))
    np.testing.assert_allclose(trainer.weights, WEIGHTS, atol=1e-3)
    assert [result.update for result in recorder.results] == list(range(1, 61))
    for result in recorder.results:
        assert list(result.means) == ["loss", "size"]
        assert result.means["loss"] == pytest.approx(result.step.outputs["loss"].mean())
    seconds = [result.seconds for result in recorder.results]
    assert seconds == sorted(seconds)


def test_a_signal_ends_the_loop_after_the_update_that_follows_it():
    stopping = NeverStopping()

    def send(result):
        if result.update == 3:
            stopping.signal = 15

    trainer = LinearTrainer()
    assert fitted(trainer, range(1, 61), callbacks=[Recorder(send)], stopping=stopping)[0] == 4
    assert trainer.updates == 4


def test_an_update_that_is_not_finite_is_explained_by_the_trainer():
    trainer = LinearTrainer()
    message = "update 5: the loss is nan at learning rate 0.3; first not finite: the input data"
    with pytest.raises(TrainingError, match=message):
        fitted(trainer, range(1, 61), bad_at=5)
    assert trainer.updates == 4


def test_workers_synchronise_before_a_callback_that_reads_parameters_and_at_the_end():
    trainer, synchronised = LinearTrainer(), []
    trainer.synchronise = lambda: synchronised.append(trainer.updates)
    reader = types.SimpleNamespace(needs_parameters=lambda update: update == 4, after_update=lambda result: None)
    fitted(trainer, range(1, 8), callbacks=[reader])
    assert synchronised == [4, 7]
