"""Training in PyTorch: the same losses as in MXNet, the same states, and runs that go on in the other engine."""

import json

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.helpers.training import newest_state, parameters, stopped_after, tiny
from tests.torch.compare import relative, torch_stopped_after
from vargfacenet.errors import SettingError, TrainingError
from vargfacenet.eval import Embedder, read_pairs, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.torch.optimizer import MomentumSGD, decay_multipliers
from vargfacenet.train.build import make_trainer
from vargfacenet.train.engine import NotFinite
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.random_state import seed_random
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import read_log
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.trainer import Trainer

# Gentle steps: with the usual ones what is rounded otherwise grows tenfold at each update, also between the native and the
# basic operators of MXNet. The losses still move by tens of percent.
GENTLE = {"lr": 4e-7, "scale": 8, "m2": 0.1, "verify_every": 1000, "weight_decay": 0.1, "batch_size": 12}
CPU, BOTH = [torch.device("cpu", 0)], [torch.device("cpu", 0), torch.device("cpu", 1)]


def losses(out):
    lines = read_log(out)
    return {name: [line[name] for line in lines] for name in ("loss", "distillation_loss") if name in lines[0]}


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "margin"},
        {"loss": "none", "distillation": "angular"},
        {"loss": "margin", "distillation": "squared_cosine", "teacher_mirror": True, "decay_norm": False},
    ],
    ids=["margin", "distillation", "both"],
)
def test_ten_updates_have_the_losses_of_mxnet(settings, face_folder, teacher, tmp_path):
    distils = {"teacher": teacher} if "distillation" in settings else {}
    found = {}
    gentle = {
        name: value for name, value in GENTLE.items() if settings["loss"] == "margin" or name not in ("scale", "m2")
    }
    for engine in ("mxnet", "torch"):
        config = tiny(**gentle, **settings, engine=engine, max_updates=10, log_every=1, save_every=10)
        train(config, data=face_folder, out=tmp_path / engine, **distils)
        found[engine] = losses(tmp_path / engine)
    assert found["torch"].keys() == found["mxnet"].keys()
    assert np.std(found["mxnet"]["loss"]) > 0.01 * np.mean(found["mxnet"]["loss"])
    for name, expected in found["mxnet"].items():
        np.testing.assert_allclose(found["torch"][name], expected, rtol=1e-4, err_msg=name)
    states = {engine: newest_state(tmp_path / engine) for engine in found}
    assert set(states["torch"]) == set(states["mxnet"])


def test_a_run_goes_on_in_the_other_engine_and_back(face_folder, pairs_file, tmp_path):
    settings = {**GENTLE, "max_updates": 16, "save_every": 4, "log_every": 1}
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    train(tiny(**settings), data=face_folder, out=whole)
    with stopped_after(8):
        train(tiny(**settings), data=face_folder, out=changed)
    with torch_stopped_after(4):
        train(tiny(**settings, engine="torch"), data=face_folder, out=changed, resume=Resume(must=True))
    train(tiny(**settings, engine="mxnet"), data=face_folder, out=changed, resume=Resume(must=True))
    expected, found = newest_state(whole), newest_state(changed)
    assert set(found) == set(expected)
    # A bias before BN has no gradient but rounding.
    idle = ("pre_fc1_bias", "embed_convx_depthwise_bn_beta", "embed_convx_pointwise_bn_moving_mean")
    for name, value in expected.items():
        if not name.endswith(idle) and not name.startswith("momentum"):
            assert relative(found[name].asnumpy(), value.asnumpy(), least=1e-3) < 1e-3, name
    np.testing.assert_allclose(losses(changed)["loss"], losses(whole)["loss"], rtol=1e-3)
    symbol, args, auxs = mx.model.load_checkpoint(str(changed / "latest"), 0)
    assert symbol.tojson() == tiny(**settings).build_symbol().tojson()
    pairs = read_pairs(pairs_file)
    scores = [verify_pairs(Embedder(*load_checkpoint(out / "latest", 0)), pairs).accuracy for out in (whole, changed)]
    assert scores[0] == scores[1]
    assert verify_pairs(Embedder(symbol, args, auxs), pairs).accuracy == scores[0]


def drawn_trainer(devices, first_update=0, **settings):
    config = tiny(**{**GENTLE, **settings})
    seed_random(0, 1, 0)
    return make_trainer(config, config.build_symbol(), 4, first_update=first_update, runtime=Runtime(devices))


def batch(seed, rows=12, scale=1.0):
    random = np.random.RandomState(seed)
    images = mx.nd.array(random.uniform(0, 255, (rows, 3, 112, 112)) * scale)
    return mx.io.DataBatch([images], [mx.nd.array(random.randint(0, 4, rows))])


def stepped(trainer, updates=3):
    for update in range(updates):
        seed_random(0, 1, update)
        trainer.step(batch(update))
    return {name: value.asnumpy() for name, value in trainer.state().items()}


def assert_states_equal(found, expected, allowed):
    assert set(found) == set(expected)
    for name, value in expected.items():
        least = 1e-2 if name.startswith("momentum") or name.endswith("bias") else 1e-3
        assert relative(found[name], value, least) < allowed, name


def test_slices_are_what_devices_are_to_mxnet():
    expected = stepped(drawn_trainer([mx.cpu(0), mx.cpu(1)]))
    assert_states_equal(stepped(drawn_trainer(BOTH)), expected, 1e-3)
    assert relative(stepped(drawn_trainer(CPU))["aux:fc1_moving_var"], expected["aux:fc1_moving_var"]) > 1e-3


def test_accumulated_gradients_are_those_of_as_many_devices():
    assert_states_equal(stepped(drawn_trainer(CPU, accumulate=2)), stepped(drawn_trainer(BOTH)), 1e-6)


def test_a_trainer_draws_the_weights_that_mxnet_draws():
    ours, theirs = drawn_trainer(CPU), drawn_trainer([mx.cpu()])
    for found, expected in zip(ours.parameters(), theirs.parameters()):
        assert {name: value.asnumpy().tobytes() for name, value in found.items()} == {
            name: value.asnumpy().tobytes() for name, value in expected.items()
        }


def test_a_loss_that_is_not_finite_names_its_origin_and_changes_nothing():
    trainer = drawn_trainer(CPU)
    stepped(trainer, 1)
    before = trainer.state()
    with pytest.raises(NotFinite) as caught:
        trainer.step(batch(1, scale=np.nan))
    assert np.isnan(caught.value.loss)
    assert "pre_fc1_weight" in caught.value.gradients
    assert trainer.trace_nan(batch(1, scale=np.nan), caught.value) == "the input data"
    for name, value in trainer.state().items():
        if not name.startswith("aux:"):
            np.testing.assert_array_equal(value.asnumpy(), before[name].asnumpy(), err_msg=name)
    with torch.no_grad():
        trainer.module.fc7_weight.fill_(float("inf"))
    with pytest.raises(NotFinite) as caught:
        trainer.step(batch(2))
    assert trainer.trace_nan(batch(2), caught.value) == "the parameter fc7_weight"


def test_an_update_that_is_not_finite_ends_the_run_with_its_origin(face_folder, tmp_path):
    config = tiny(
        **{
            **GENTLE,
            "engine": "torch",
            "lr": 100,
            "weight_decay": 1,
            "scale": 1000,
            "warmup_updates": 0,
            "log_every": 1,
        }
    )
    with pytest.raises(
        TrainingError, match=r"update \d: the loss is nan at learning rate .*; first not finite: the output of "
    ):
        train(config, data=face_folder, out=tmp_path)


def test_bfloat16_is_near_float32_and_keeps_parameters_in_float32():
    precise, rough = drawn_trainer(CPU), drawn_trainer(CPU, precision="bfloat16", channels_last=True)
    losses = [float(one.step(batch(0)).outputs["loss"].mean()) for one in (precise, rough)]
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert {value.dtype for value in rough.module.state_dict().values()} == {torch.float32}
    assert rough.module.embed_convx_weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_a_compiled_graph_trains_alike():
    assert_states_equal(stepped(drawn_trainer(CPU, compile=True)), stepped(drawn_trainer(CPU)), 1e-3)


@pytest.mark.parametrize("clip", [0.0, 0.01])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_updates_are_those_of_mxnets_optimizer(clip, momentum):
    random = np.random.RandomState(0)
    start = {"a_weight": random.randn(4, 3), "b_bias": random.randn(3)}
    ours = {name: torch.nn.Parameter(torch.tensor(value, dtype=torch.float32)) for name, value in start.items()}
    decays = decay_multipliers(list(ours), {})
    assert decays == {"a_weight": 1.0, "b_bias": 0.0}
    rule = SGD(lambda update: 0.1, momentum, 0.1, clip)
    sgd = MomentumSGD(ours, decays, rule=rule, rescale=1 / 8)
    theirs = {name: mx.nd.array(value) for name, value in start.items()}
    momenta = {name: mx.nd.zeros(value.shape) for name, value in start.items()}
    for lr in (0.0, 0.1, 0.05, 0.3):
        for name, parameter in ours.items():
            gradient = random.randn(*parameter.shape)
            parameter.grad = torch.tensor(gradient, dtype=torch.float32)
            options = {"lr": lr, "wd": 0.1 * decays[name], "rescale_grad": 1 / 8, "clip_gradient": clip or -1}
            update = mx.nd.sgd_mom_update if momentum else mx.nd.sgd_update
            extra = (momenta[name],) if momentum else ()
            options.update({"momentum": momentum} if momentum else {})
            update(theirs[name], mx.nd.array(gradient), *extra, out=theirs[name], **options)
        sgd.step(lr, torch.zeros(()))
        for name, parameter in ours.items():
            np.testing.assert_allclose(parameter.detach().numpy(), theirs[name].asnumpy(), rtol=1e-6, atol=1e-7)
            if momentum:
                np.testing.assert_allclose(
                    sgd.slots()["momentum"][name].numpy(), momenta[name].asnumpy(), rtol=1e-5, atol=1e-7
                )
    kept = {name: parameter.detach().clone() for name, parameter in ours.items()}
    sgd.step(0.1, torch.ones(()))
    assert all(torch.equal(kept[name], parameter) for name, parameter in ours.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "mxnet", "precision": "bfloat16"}, "precision=bfloat16 is of engine=torch"),
        ({"accumulate": 3}, r"batch_size=8: expected a multiple of devices x accumulate x workers \(3\)"),
        ({"head": "sharded", "accumulate": 2}, "accumulate=2 with head=sharded"),
        ({"compile": True}, "compile=True is of engine=torch"),
        (
            {"engine": "torch", "accumulate": 3},
            r"batch_size=8: expected a multiple of devices x accumulate x workers \(3\)",
        ),
        ({"engine": "torch", "head": "sharded", "accumulate": 2}, "one slice of the classifier and one of the batch"),
    ],
)
def test_settings_that_an_engine_has_not_are_refused_before_anything_is_written(
    settings, message, face_folder, tmp_path
):
    with pytest.raises(SettingError, match=message):
        train(tiny(**settings), data=face_folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_generations_learns_from_an_online_teacher(face_folder, pairs_file, teacher, tmp_path):
    config = tiny(
        "demo_student", engine="torch", generations=2, max_updates=4, save_every=2, verify_every=2, loss="none", mix=0.5
    )
    result = train(config, data=face_folder, out=tmp_path, bins=[pairs_file], teacher=teacher)
    assert set(result.generations[1].verifications) == {0, 2, 4}
    load_checkpoint(tmp_path / "best", 0)
    assert json.loads((tmp_path / "generation-1" / "config.json").read_text())["engine"] == "torch"
    assert parameters(tmp_path)["arg:pre_fc1_weight"].shape[0] == 16


def test_the_state_of_a_trainer_comes_back():
    trainer, other = drawn_trainer(CPU), drawn_trainer(CPU, first_update=2)
    stepped(trainer, 2)
    other.load_state(trainer.state())
    for one in (trainer, other):
        seed_random(0, 1, 2)
        one.step(batch(2))
    assert_states_equal(
        {name: value.asnumpy() for name, value in other.state().items()},
        {name: value.asnumpy() for name, value in trainer.state().items()},
        1e-9,
    )
    assert isinstance(drawn_trainer([mx.cpu()]), Trainer)


def test_updates_that_are_read_later_are_the_same():
    at_once, later = drawn_trainer(CPU), drawn_trainer(CPU)
    steps, pending = [], []
    for update in range(3):
        seed_random(0, 1, update)
        steps.append(at_once.step(batch(update)))
    for update in range(3):
        seed_random(0, 1, update)
        pending.append(later.launch(batch(update)))
    for one, other in zip(steps, pending):
        assert list(one.outputs) == list(other.result().outputs)
        assert next(iter(one.outputs)) == "loss"
        for name, values in one.outputs.items():
            np.testing.assert_array_equal(other.result().outputs[name], values, err_msg=name)
        np.testing.assert_array_equal(other.result().labels[0], one.labels[0])
    states = at_once.state(), later.state()
    for name, value in states[0].items():
        np.testing.assert_array_equal(states[1][name].asnumpy(), value.asnumpy(), err_msg=name)
