"""Runs whose classifier is in shards: small, but whole."""

import json

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.training import newest_state, parameters, stopped_after, tiny
from vargfacenet.commands import main
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.train.build import make_trainer
from vargfacenet.train.config import Config
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import read_log
from vargfacenet.train.runtime import Runtime

TWO = [mx.cpu(0), mx.cpu(1)]
SHARDED = {"head": "sharded", "sample_rate": 0.5}


@pytest.fixture
def without_batch_statistics(monkeypatch):
    """Each device takes BN's statistics of its own slice; without them the slices add up to the batch."""
    build = Config.build_symbol

    def fixed(self):
        graph = json.loads(build(self).tojson())
        for node in graph["nodes"]:
            if node["op"] == "BatchNorm":
                node["attrs"]["use_global_stats"] = "True"
        return mx.sym.load_json(json.dumps(graph))

    monkeypatch.setattr(Config, "build_symbol", fixed)


def batch(config, identities):
    random = np.random.RandomState(0)
    data = [mx.nd.array(random.uniform(0, 255, (config.batch_size, 3, 112, 112)))]
    if config.distils:
        data.append(mx.nd.array(random.normal(size=(config.batch_size, 16))))
    return mx.io.DataBatch(data, [mx.nd.array(random.randint(0, identities, config.batch_size))])


def trained(config, devices, start=None, identities=7, updates=3):
    """States before and after some updates, and the outputs of the last."""
    trainer = make_trainer(config, config.build_symbol(), identities, runtime=Runtime(devices))
    if start is not None:
        trainer.load_state(start)
    before = {name: value.copy() for name, value in trainer.state().items()}
    for _ in range(updates):
        outputs = trainer.step(batch(config, identities)).outputs
    return before, trainer.state(), outputs


def as_dense(state):
    """A state of a classifier in shards under the names of one in the graph."""
    named = {name.replace("/0", ""): value.asnumpy() for name, value in state.items()}
    return {name: value.reshape(-1) if name.endswith("bias") else value for name, value in named.items()}


ONE, THREE = [mx.cpu(0)], [*TWO, mx.cpu(2)]


@pytest.mark.parametrize(
    ("recipe", "loss", "by_devices"),
    [
        ("demo_student_scratch", "margin", [ONE, TWO, THREE]),
        ("demo_student_scratch", "softmax", [THREE]),
        ("demo_student", "margin", [THREE]),
        ("demo_student", "softmax", [TWO]),
    ],
)
def test_training_is_that_of_the_dense_head(without_batch_statistics, recipe, loss, by_devices):
    settings = {"batch_size": 6, "loss": loss, "alpha": 3.0, "generations": 1, "warmup_updates": 0}
    if loss == "margin":
        settings["scale"] = 16.0
    settings["lr"] = 0.05 if loss == "margin" else 0.005
    start, _, _ = trained(tiny(recipe, head="sharded", **settings), ONE, updates=1)
    _, expected, outputs = trained(
        tiny(recipe, **settings), ONE, {name: mx.nd.array(value) for name, value in as_dense(start).items()}
    )
    for devices in by_devices:
        _, found, told = trained(tiny(recipe, head="sharded", **settings), devices, start)
        assert set(told) == set(outputs)
        for name, value in outputs.items():
            np.testing.assert_allclose(told[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
        found = as_dense(found)
        assert set(found) == set(expected)
        for name, value in expected.items():
            # With basic operators on several threads, sums differ by 1.3e-5.
            np.testing.assert_allclose(found[name], value.asnumpy(), rtol=1e-4, atol=5e-5, err_msg=name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, face_folder, pairs_file, teacher):
    out = tmp_path_factory.mktemp("run") / "out"
    config = tiny("demo_student", generations=2, **SHARDED)
    return train(config, data=face_folder, out=out, bins=[pairs_file], teacher=teacher, runtime=Runtime(TWO))


def test_a_run_leaves_checkpoints_without_the_classifier_and_a_state_with_it(finished):
    for one in finished.generations:
        for name in ("latest", "best"):
            load_checkpoint(one.out / name, 0)
            assert not any("fc7" in key for key in parameters(one.out, name))
        state = newest_state(one.out)
        assert state["arg:fc7_weight/0"].shape == state["momentum:fc7_weight/0"].shape == (4, 16)
        assert state["momentum:fc7_weight/0"].asnumpy().any()
        line = read_log(one.out)[-1]
        assert {"loss", "identity_loss", "distillation_loss", "cosine", "accuracy", "lr"} <= set(line)
        assert line["loss"] == pytest.approx(line["identity_loss"] + 64 * line["distillation_loss"], rel=1e-4)


def test_a_run_stopped_in_each_generation_ends_as_the_unbroken_one(
    finished, face_folder, pairs_file, teacher, tmp_path
):
    config = tiny("demo_student", generations=2, **SHARDED)
    arguments = {
        "data": face_folder,
        "out": tmp_path / "out",
        "bins": [pairs_file],
        "teacher": teacher,
        "runtime": Runtime(TWO),
    }
    for stop, saved in ((4, 0), (10, 3)):
        with stopped_after(stop - saved):
            train(config, **arguments, resume=Resume() if saved > 0 else None)
    assert train(config, **arguments, resume=Resume()).updates == 3
    for number in (1, 2):
        whole, broken = (newest_state(out / f"generation-{number}") for out in (finished.out, tmp_path / "out"))
        assert set(whole) == set(broken)
        for name in whole:
            np.testing.assert_array_equal(whole[name].asnumpy(), broken[name].asnumpy(), err_msg=name)


@pytest.mark.parametrize("classifier", ["keep", "new"])
def test_the_next_generation_keeps_the_classifier_or_draws_another(face_folder, teacher, tmp_path, classifier):
    """An update of size 0 leaves in each generation what it began with."""
    config = tiny(
        "demo_student", generations=2, max_updates=1, warmup_updates=0, lr=0.0, classifier=classifier, head="sharded"
    )
    train(config, data=face_folder, out=tmp_path, teacher=teacher)
    first, second = (newest_state(tmp_path / f"generation-{n}") for n in (1, 2))
    kept = np.array_equal(first["arg:fc7_weight/0"].asnumpy(), second["arg:fc7_weight/0"].asnumpy())
    assert kept == (classifier == "keep")


def test_a_run_goes_on_with_another_number_of_devices(face_folder, tmp_path):
    config = tiny(head="sharded")
    with stopped_after(3):
        train(config, data=face_folder, out=tmp_path, runtime=Runtime(TWO))
    assert train(config, data=face_folder, out=tmp_path, resume=Resume()).updates == 3


def test_a_sharded_run_learns(face_folder, tmp_path):
    settings = {"max_updates": 60, "warmup_updates": 4, "scale": 16, "m2": 0.1, **SHARDED}
    train(tiny(**settings), data=face_folder, out=tmp_path, runtime=Runtime(TWO))
    lines = read_log(tmp_path)
    # Of the last ten lines: one is of 16 faces, and its accuracy depends on the CPU's rounding. Guessing finds one in four.
    assert np.mean([line["loss"] for line in lines[-10:]]) < 0.6 * lines[0]["loss"]
    assert np.mean([line["accuracy"] for line in lines[-10:]]) > 0.5


def test_the_command_trains_on_two_devices(capsys, face_folder, tmp_path):
    settings = ["multiplier=0.25", "units=1,1,1", "use_se=false", "embedding_size=16", "batch_size=8", "max_updates=2"]
    command = ["train", "demo_student_scratch", "--data", str(face_folder), "--out", str(tmp_path / "out")]
    command += ["--device", "cpu:0,cpu:1", "--set", *settings, "head=sharded", "sample_rate=0.5"]
    assert main(command) == 0
    assert "latest checkpoint" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "config.json").read_text())["sample_rate"] == 0.5
