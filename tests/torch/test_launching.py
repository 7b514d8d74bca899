"""A run on the PyTorch engine reads the results of an update when the next one has been started, and nothing before."""

import types

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.torch.test_losses import recipe, small_batch, small_trainer
from vargfacenet.errors import TrainingError
from vargfacenet.symbols.registry import LOSSES
from vargfacenet.train.callback import Callback
from vargfacenet.train.engine import LaunchingTrainer, NotFinite
from vargfacenet.train.loop import fit
from vargfacenet.train.stopping import NeverStopping

CPU = [torch.device("cpu", 0)]
# Operators that wait for a GPU: their result is a number of Python, or has a shape that depends on values.
WAITING = ("_local_scalar_dense", "is_nonzero", "equal.default", "nonzero", "masked_select", "unique", "allclose")


class NothingIsRead(TorchDispatchMode):
    """Fails where an operator would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operators += 1
        assert not any(name in str(function) for name in WAITING), function
        if "index" in str(function):
            masks = [one for one in torch.utils._pytree.tree_leaves(args) if getattr(one, "dtype", None) == torch.bool]
            assert not masks, f"{function} with a mask, whose hits are counted first"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def unread(monkeypatch):
    """Reading a tensor from Python fails too, whatever operator does it."""

    def refuse(name):
        def refused(self, *args, **kwargs):
            raise AssertionError(f"Tensor.{name} waits for the device")

        return refused

    for name in ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, refuse(name))


def test_reading_a_number_is_noticed(unread):
    with pytest.raises(AssertionError, match="Tensor.item waits"):
        torch.ones(()).item()
    with pytest.raises(AssertionError, match="with a mask"), NothingIsRead():
        torch.ones(3)[torch.ones(3) > 0]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        *((name, {}) for name in LOSSES.names()),
        *((name, {"head": "sharded", "sample_rate": 0.6}) for name in LOSSES.names() if LOSSES[name].sharded),
        ("margin", {"accumulate": 3}),
        ("margin", {"clip_gradient": 0.1, "precision": "bfloat16", "channels_last": True}),
    ],
    ids=str,
)
def test_an_update_is_started_without_reading_a_number(name, head, unread):
    config = recipe(name, **head)
    trainer = small_trainer(config, CPU)
    batches = [small_batch(update, config) for update in range(2)]
    with NothingIsRead() as watch:
        started = [trainer.launch(batch) for batch in batches]
    assert watch.operators > 20
    assert len(started) == 2


class Record(Callback):
    """Notes results, and what the trainer had started by then."""

    def __init__(self, trainer, reads=()):
        self.seen, self._trainer, self._reads = [], trainer, reads

    def needs_parameters(self, update):
        return update in self._reads

    def after_update(self, result):
        self.seen.append((result.update, self._trainer.updates_made, result.means["loss"]))


def fitted(config, updates, callbacks=(), make=small_batch, trainer=None, **options):
    trainer, numbers = trainer or small_trainer(config, CPU), iter(range(100))
    return fit(
        trainer, lambda: make(next(numbers), config), updates, callbacks=callbacks, reseed=lambda _: None, **options
    )


def test_results_are_read_one_update_later_unless_parameters_are_needed():
    config = recipe("margin")
    trainer = small_trainer(config, CPU)
    assert isinstance(trainer, LaunchingTrainer)
    record = Record(trainer, reads=(3,))
    assert fitted(config, range(1, 7), [record], trainer=trainer) == 6
    assert [seen[:2] for seen in record.seen] == [(1, 2), (2, 3), (3, 3), (4, 5), (5, 6), (6, 6)]
    steps = small_trainer(config, CPU)
    expected = [steps.step(small_batch(update, config)).outputs["loss"].mean() for update in range(6)]
    np.testing.assert_allclose([seen[2] for seen in record.seen], expected, rtol=1e-6)


def test_a_signal_ends_the_loop_after_the_update_that_has_been_started():
    config, stopping = recipe("margin"), NeverStopping()
    trainer = small_trainer(config, CPU)
    record = Record(trainer)

    def send(result):
        if result.update == 3:
            stopping.signal = 15

    sender = types.SimpleNamespace(needs_parameters=lambda update: False, after_update=send)
    # Update 4 was started when the results of 3 were told; the signal is seen with the results of 4, when 5 was.
    assert fitted(config, range(1, 60), [record, sender], trainer=trainer, stopping=stopping) == 5
    assert [seen[0] for seen in record.seen] == [1, 2, 3, 4, 5]
    assert trainer.updates_made == 5


def test_an_update_that_is_not_finite_is_explained_from_its_own_batch_and_none_is_made_after_it():
    def make(number, config):
        batch = small_batch(number, config)
        if number == 2:
            batch.data[0][:] = np.nan
        return batch

    config = recipe("margin")
    trainer, record = small_trainer(config, CPU), None
    record = Record(trainer)
    with pytest.raises(TrainingError, match=r"update 3: the loss is nan at .*first not finite: the input data"):
        fitted(config, range(1, 60), [record], make, trainer)
    assert [seen[0] for seen in record.seen] == [1, 2]
    assert trainer.updates_made == 4  # one was begun, and left everything as it was
    twice = small_trainer(config, CPU)
    for number in range(2):
        twice.step(small_batch(number, config))
    for name, value in twice.parameters()[0].items():
        np.testing.assert_array_equal(trainer.parameters()[0][name].asnumpy(), value.asnumpy(), err_msg=name)


def test_a_gradient_that_is_not_finite_is_named_after_the_next_update_was_started():
    config = recipe("softmax")
    trainer = small_trainer(config, CPU)
    batch = small_batch(0, config)
    batch.data[0][:] = 1e38
    bad = trainer.launch(batch)
    trainer.launch(small_batch(1, config))
    with pytest.raises(NotFinite, match="gradients that are not finite: pre_fc1_weight"):
        bad.result()
