"""Optimizers, averages and accumulation in PyTorch: MXNet's numbers, and states that either engine continues."""

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.helpers.regression import COLUMNS, ROWS, regression, regression_batch, start_values
from tests.helpers.training import newest_state, stopped_after, tiny
from tests.torch.compare import torch_stopped_after
from vargfacenet.errors import SettingError
from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.precision import Compute
from vargfacenet.torch.trainer import TorchTrainer
from vargfacenet.train.classifier import Sampling, ShardedClassifier
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.engine import NotFinite
from vargfacenet.train.optimizer import SGD, AdamW, Averaging
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.trainer import Trainer

AVERAGED = Averaging(0.9, frozenset(["a_weight", "b_bias"]))
RULES = {
    "sgd": SGD(lambda update: 0.05 / update, averaging=AVERAGED),
    "adamw": AdamW(lambda update: 0.05 / update, 0.8, 0.95, 1e-3, 0.3, averaging=AVERAGED),
    "adamw, clipped, lr 0 first": AdamW(lambda update: 0.05 * (update - 1), weight_decay=0.1, clip_gradient=0.1),
}


def in_mxnet(rule, first_update=0):
    shapes = {"data": {"data": (ROWS, COLUMNS)}, "labels": {"label": (ROWS,)}}
    return begun(Trainer(regression(), **shapes, sgd=rule, first_update=first_update))


def in_torch(rule, slices=1, first_update=0):
    compute = Compute(torch.device("cpu"), slices=slices)
    shapes = {"data": {"data": (ROWS, COLUMNS)}, "labels": {"label": (ROWS,)}}
    return begun(TorchTrainer(regression(), **shapes, sgd=rule, compute=compute, first_update=first_update))


def begun(trainer):
    trainer.set_parameters({name: mx.nd.array(value) for name, value in start_values().items()}, {})
    return trainer


def stepped(trainer, updates=range(1, 9)):
    for update in updates:
        trainer.step(regression_batch(update))
    return {name: value.asnumpy() for name, value in trainer.state().items()}


def assert_close(found, expected, allowed=3e-5):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=allowed, atol=allowed, err_msg=name)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_states_are_those_of_mxnet_and_of_parts(rule):
    expected = stepped(in_mxnet(rule))
    assert_close(stepped(in_torch(rule)), expected)
    assert_close(stepped(in_torch(rule, slices=3)), expected)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_either_engine_continues_the_others_state(rule):
    expected = stepped(in_mxnet(rule))
    for first, second in ((in_mxnet, in_torch), (in_torch, in_mxnet)):
        begun_by = first(rule)
        stepped(begun_by, range(1, 5))
        other = second(rule, first_update=4)
        other.load_state(begun_by.state())
        assert_close(stepped(other, range(5, 9)), expected)


def test_an_update_that_is_not_finite_changes_neither_moments_nor_averages():
    trainer = in_torch(RULES["adamw"])
    before = stepped(trainer, range(1, 3))
    bad = regression_batch(3)
    bad.data[0][:] = np.nan
    with pytest.raises(NotFinite):
        trainer.step(bad)
    assert_close({name: value.asnumpy() for name, value in trainer.state().items()}, before, 0)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_a_sharded_classifier_makes_the_updates_of_mxnet(rate):
    identities, size, rows = 11, 4, 6
    rule = AdamW(lambda update: 0.02, 0.8, 0.95, 1e-3, 0.3)
    margin, random = tiny(head="sharded").sharded_margin(), np.random.RandomState(3)
    options = {"sgd": rule, "margin": margin, "sampling": Sampling(rate, 5, 0), "rescale": 1 / rows}
    ours = TorchClassifier((identities, size), device=torch.device("cpu"), cluster=ALONE, **options)
    theirs = ShardedClassifier(num_identities=identities, embedding_size=size, **options)
    for each in (ours, theirs):
        each.initialise(1, 1)
    for update in range(1, 5):
        embedding = random.normal(size=(rows, size)).astype(np.float32)
        label = random.randint(0, identities, rows).astype(np.float32)
        theirs.step(mx.nd.array(embedding), mx.nd.array(label), update=update)
        ours.descend(torch.from_numpy(embedding), label, update=update)
        ours.update(0.02, torch.zeros(()))
    found, expected = ({name: value.asnumpy() for name, value in one.state().items()} for one in (ours, theirs))
    assert expected["variance:fc7_weight/0"].any()
    assert_close(found, expected, 2e-4)


def test_a_run_goes_on_in_the_other_engine_and_back(face_folder, tmp_path):
    settings = {"optimizer": "adamw", "lr": 1e-6, "ema_decay": 0.5, "accumulate": 2, "scale": 8, "m2": 0.1}
    settings.update(max_updates=6, save_every=2, verify_every=100)
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    train(tiny(**settings), data=face_folder, out=whole)
    with stopped_after(2):
        train(tiny(**settings), data=face_folder, out=changed)
    with torch_stopped_after(2):
        train(tiny(**settings, engine="torch"), data=face_folder, out=changed, resume=Resume(must=True))
    train(tiny(**settings, engine="mxnet"), data=face_folder, out=changed, resume=Resume(must=True))
    expected, found = newest_state(whole), newest_state(changed)
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name.startswith(("arg:", "ema:")):
            least = 1e-4 * max(1e-2, float(np.abs(value.asnumpy()).max()))
            np.testing.assert_allclose(found[name].asnumpy(), value.asnumpy(), rtol=1e-3, atol=least, err_msg=name)


def test_other_optimizers_are_refused_by_name():
    with pytest.raises(SettingError, match="unknown optimizer 'adam': did you mean 'adamw'"):
        tiny(optimizer="adam")
