"""The classifier over workers in PyTorch computes what MXNet's does."""

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.helpers.training import newest_state, tiny
from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.shard import RowStep, TorchShard
from vargfacenet.train.classifier import Margin, Sampling, ShardedClassifier
from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.optimizer import SGD, AdamW
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import read_log

IDENTITIES, SIZE = 50, 8


def both(margin, sample_rate=1.0, clip_gradient=0.0):
    """The classifier of each engine, with the same weights."""
    sgd = SGD(lambda update: 0.3, 0.9, 0.01, clip_gradient)
    settings = {"sgd": sgd, "margin": margin, "sampling": Sampling(sample_rate, 3, 7), "rescale": 1 / 12}
    theirs = ShardedClassifier(num_identities=IDENTITIES, embedding_size=SIZE, **settings)
    ours = TorchClassifier((IDENTITIES, SIZE), device=torch.device("cpu"), cluster=ALONE, **settings)
    for one in (ours, theirs):
        one.initialise(1, 2)
    return ours, theirs


@pytest.mark.parametrize(
    ("margin", "sample_rate", "clip_gradient"),
    [
        (Margin(1.0, 0.5, 0.0, 64.0), 1.0, 0.0),
        (Margin(1.2, 0.3, 0.1, 16.0), 0.4, 0.0),
        (Margin(1.0, 0.0, 0.35, 16.0), 0.4, 0.001),
        (None, 1.0, 0.0),
        (None, 0.4, 0.0),
    ],
)
def test_updates_are_those_of_mxnets_classifier(margin, sample_rate, clip_gradient):
    ours, theirs = both(margin, sample_rate, clip_gradient)
    random = np.random.RandomState(0)
    for update in range(1, 5):
        embedding = random.normal(size=(12, SIZE)).astype(np.float32)
        label = random.randint(0, IDENTITIES, 12)
        expected = theirs.step(mx.nd.array(embedding), mx.nd.array(label), update=update)
        found = ours.descend(torch.from_numpy(embedding), label, update=update)
        ours.update(0.3, torch.zeros(()))
        for value, wanted in zip(found, expected):
            largest = np.abs(wanted.asnumpy()).max()  # whose rounding the small ones have
            np.testing.assert_allclose(value.numpy(), wanted.asnumpy(), rtol=1e-4, atol=2e-6 * max(largest, 5))
    states = ours.state(), theirs.state()
    assert states[0].keys() == states[1].keys()
    for name, value in states[1].items():
        np.testing.assert_allclose(states[0][name].asnumpy(), value.asnumpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_update_that_is_not_finite_changes_nothing():
    ours, _ = both(None, 0.4)
    before = ours.state()
    ours.descend(torch.full((12, SIZE), float("nan")), np.arange(12), update=1)
    ours.update(0.3, torch.ones(()))
    for name, value in ours.state().items():
        np.testing.assert_array_equal(value.asnumpy(), before[name].asnumpy())


def test_the_state_of_either_engine_is_taken_by_the_other():
    ours, theirs = both(None)
    ours.descend(torch.ones(12, SIZE), np.arange(12), update=1)
    ours.update(0.3, torch.zeros(()))
    theirs.load_state(ours.state())
    other, _ = both(None)
    other.load_state(theirs.state())
    for name, value in other.state().items():
        np.testing.assert_array_equal(value.asnumpy(), ours.state()[name].asnumpy())
    with pytest.raises(CheckpointError, match="the state lacks arg:fc7_weight/0 of the classifier"):
        other.load_state({})


@pytest.mark.parametrize("count", [1, (1 << 24) + 1])
def test_fewer_identities_than_workers_and_more_than_labels_hold_are_refused(count):
    with pytest.raises(
        SettingError, match=rf"{count} identities in 2 shard\(s\): expected at least one for each, and at most"
    ):
        TorchClassifier((count, 1), device=torch.device("meta"), cluster=Cluster(0, 2), sgd=SGD(lambda update: 0.3))


@pytest.mark.parametrize("rule", [SGD(lambda update: 4.0), AdamW(lambda update: 4.0)], ids=["sgd", "adamw"])
@pytest.mark.parametrize("rows", [None, torch.tensor([0, 2])], ids=["all", "sampled"])
def test_rows_stay_as_they_are_where_their_gradient_overflows_and_show_it_otherwise(rule, rows):
    shard = TorchShard(3, {"weight": 2}, device=torch.device("cpu"), cluster=ALONE, sgd=rule, rescale=1.0)
    shard.initialise(0)
    before = {name: value.clone() for name, value in shard.arrays.items()}
    gradient = torch.tensor([[torch.inf, -torch.inf], [torch.nan, 1.0], [3e38, 0.0]])[: 3 if rows is None else 2]
    shard.update(rows, {"weight": gradient}, RowStep(4.0, 1), torch.ones(()))
    assert torch.equal(shard.arrays["weight"], before["weight"])
    assert not any(value.any() for arrays in shard.slots.values() for value in arrays.values())
    shard.update(rows, {"weight": gradient}, RowStep(4.0, 1), torch.zeros(()))
    assert not torch.isfinite(shard.arrays["weight"]).all()  # so that the next loss is not finite and ends the run


def test_a_run_with_it_has_the_losses_of_mxnet_and_goes_on_there(face_folder, teacher, tmp_path):
    gentle = {"lr": 4e-7, "scale": 8, "m2": 0.1, "verify_every": 1000, "batch_size": 12, "distillation": "angular"}
    settings = {**gentle, "head": "sharded", "sample_rate": 0.5, "max_updates": 6, "log_every": 1, "save_every": 6}
    logs = []
    for engine in ("mxnet", "torch"):
        train(tiny(**settings, engine=engine), data=face_folder, out=tmp_path / engine, teacher=teacher)
        logs.append(read_log(tmp_path / engine))
    for name in ("loss", "identity_loss", "distillation_loss"):
        np.testing.assert_allclose([line[name] for line in logs[1]], [line[name] for line in logs[0]], rtol=1e-4)
    assert newest_state(tmp_path / "torch").keys() == newest_state(tmp_path / "mxnet").keys()
    longer = tiny(**{**settings, "max_updates": 7})
    options = {"data": face_folder, "out": tmp_path / "torch", "teacher": teacher}
    assert train(longer, resume=Resume(must=True, force=True), **options).updates == 1
