"""The loss scale, on float32 graphs, where a power of two changes nothing but what overflows."""

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.training import tiny
from vargfacenet.errors import SettingError
from vargfacenet.train import build, graph, precision
from vargfacenet.train.build import make_trainer
from vargfacenet.train.precision import LossScale, check_precision, not_finite
from vargfacenet.train.random_state import seed_random
from vargfacenet.train.run import train
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.trainer import Trainer


@pytest.fixture
def scaled_in_single_precision(monkeypatch):
    """float16 as it runs on GPUs, without what the CPU lacks: loss scale, open losses, skipped updates."""
    monkeypatch.setattr(graph, "in_half_precision", lambda symbol, **_: symbol)
    monkeypatch.setattr(build, "check_precision", lambda *_: None)


def batch(config):
    random = np.random.RandomState(0)
    data = [mx.nd.array(random.uniform(0, 255, (config.batch_size, 3, 112, 112)))]
    if config.distils:
        data.append(mx.nd.array(random.normal(size=(config.batch_size, 16))))
    return mx.io.DataBatch(data, [mx.nd.array(random.randint(0, 7, config.batch_size))])


def trainer_of(config, devices=1):
    seed_random(0, 1, 0)
    runtime = Runtime([mx.cpu(number) for number in range(devices)])
    return make_trainer(config, config.build_symbol(), 7, runtime=runtime)


def network_of(trainer):
    """The part of a trainer that has the loss scale."""
    return trainer if isinstance(trainer, Trainer) else trainer.network


def arrays(state):
    return {name: value.asnumpy().copy() for name, value in state.items()}


@pytest.mark.parametrize("recipe", ["demo_student_scratch", "demo_student"])
@pytest.mark.parametrize("head", ["dense", "sharded"])
def test_a_scaled_run_is_the_unscaled_one(scaled_in_single_precision, recipe, head):
    results = []
    for settings in ({}, {"precision": "float16", "loss_scale": 256}):
        config = tiny(recipe, head=head, generations=1, warmup_updates=0, clip_gradient=0.05, **settings)
        trainer = trainer_of(config, devices=2)
        outputs = [trainer.step(batch(config)) for _ in range(2)][-1].outputs
        results.append((outputs, arrays(trainer.state())))
    (outputs, state), (scaled_outputs, scaled) = results
    np.testing.assert_array_equal(scaled.pop("scale:loss"), [256, 2])
    assert set(scaled) == set(state)
    assert set(scaled_outputs) == set(outputs)
    for name, value in {**outputs, **state}.items():
        np.testing.assert_allclose({**scaled_outputs, **scaled}[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("head", ["dense", "sharded"])
def test_an_update_that_overflows_is_left_out_and_halves_the_scale(scaled_in_single_precision, monkeypatch, head):
    monkeypatch.setattr(precision, "_MOST", 2.0**130)
    config = tiny(precision="float16", head=head, warmup_updates=0)
    trainer = trainer_of(config)
    network_of(trainer).loss_scale.value = 2.0**127  # times any gradient above 2
    before = arrays(trainer.state())
    trainer.step(batch(config))
    after = arrays(trainer.state())
    assert after["scale:loss"][0] == 2.0**126
    network = [name for name in before if name.startswith("arg:") and "fc7" not in name]
    assert all(np.array_equal(before[name], after[name]) for name in network)
    network_of(trainer).loss_scale.value = 64.0
    trainer.step(batch(config))
    moved = arrays(trainer.state())
    assert not all(np.array_equal(before[name], moved[name]) for name in network)
    assert all(np.isfinite(value).all() for value in moved.values())


def test_a_left_out_update_counts_in_the_schedule(scaled_in_single_precision):
    config = tiny(precision="float16", warmup_updates=0)
    trainer, seen = trainer_of(config), []
    trainer.loss_scale.admits = lambda gradients, all_reduce: len(seen) != 1 and bool(gradients)
    for _ in range(3):
        trainer.step(batch(config))
        seen.append(trainer._module._optimizer.lr_scheduler(0))
    schedule = trainer_of(tiny(warmup_updates=0)).schedule
    assert seen == [schedule(update) for update in (1, 2, 3)]


def test_the_scale_is_halved_at_an_overflow_and_doubled_after_many_updates(monkeypatch):
    monkeypatch.setattr(precision, "_PATIENCE", 3)
    scale, fine, bad = LossScale(8), [[mx.nd.ones(3)]], [[mx.nd.ones(3)], [mx.nd.array([1, np.nan])]]
    assert not scale.admits(bad)
    assert not scale.admits([[mx.nd.array([np.inf])]])
    assert scale.value == 2
    assert all(scale.admits(fine) for _ in range(2))
    assert scale.value == 2
    assert scale.admits(fine)
    assert scale.value == 4


def test_all_workers_leave_out_what_overflows_in_one():
    scale = LossScale(8)
    assert not scale.admits([[mx.nd.ones(3)]], all_reduce=lambda number: number + 1)
    assert scale.value == 4
    assert scale.admits([[mx.nd.ones(3)]], all_reduce=lambda number: number + 0)


def test_the_scale_goes_on_where_a_state_left_it():
    scale, again = LossScale(1024), LossScale(1024)
    scale.admits([[mx.nd.array([np.inf])]])
    scale.admits([[mx.nd.ones(1)]])
    again.load_state(scale.state())
    np.testing.assert_array_equal(again.state().asnumpy(), [512, 1])


def test_half_precision_on_a_cpu_is_refused_before_anything_is_written(face_folder, tmp_path):
    check_precision("float16", [mx.gpu(0)])
    check_precision("float32", [mx.cpu(0)])
    with pytest.raises(SettingError, match=r"precision=float16 on cpu\(0\): MXNet has no float16 convolutions on CPUs"):
        train(tiny(precision="float16"), data=face_folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_found_among_any_number_of_arrays():
    arrays = [mx.nd.ones((2, 3)) for _ in range(450)]
    assert not_finite(arrays) == []
    assert LossScale(2.0).admits([arrays])
    for place, value in ((3, np.nan), (199, np.inf), (200, -np.inf), (449, np.nan)):
        arrays[place][1, 2] = value
    assert not_finite(arrays) == [3, 199, 200, 449]
    assert not LossScale(2.0).admits([arrays])
    assert not_finite([]) == []
