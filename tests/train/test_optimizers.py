"""Optimizers, averages of weights, accumulation and schedules of the MXNet engine, each recomputed in NumPy."""

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.regression import COLUMNS, NAMES, ROWS, mean_gradients, regression, regression_batch, start_values
from tests.helpers.training import newest_state, parameters, stopped_after, tiny
from vargfacenet.errors import SettingError
from vargfacenet.eval import Embedder, read_pairs, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.train.build import check_settings
from vargfacenet.train.classifier.row_update import RowUpdate
from vargfacenet.train.optimizer import SGD, AdamW, Averaging
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.schedule import learning_rate_schedule
from vargfacenet.train.trainer import Trainer

UPDATES = 12
LR, BETAS, EPSILON, DECAY = 0.05, (0.8, 0.95), 1e-3, 0.3
ADAMW = AdamW(lambda update: LR / update, *BETAS, EPSILON, DECAY)
BOTH = [mx.cpu(0), mx.cpu(1)]


def made(sgd, devices=(), parts=1, first_update=0):
    trainer = Trainer(
        regression(),
        data={"data": (ROWS, COLUMNS)},
        labels={"label": (ROWS,)},
        sgd=sgd,
        runtime=Runtime(list(devices) or [mx.cpu()]),
        parts=parts,
        first_update=first_update,
    )
    trainer.set_parameters({name: mx.nd.array(value) for name, value in start_values().items()}, {})
    return trainer


def stepped(trainer, updates=range(1, UPDATES + 1)):
    for update in updates:
        trainer.step(regression_batch(update))
    return {name: value.asnumpy() for name, value in trainer.state().items()}


def adamw_by_hand(clip=0.0):
    """The published algorithm in float64: the state after the updates."""
    values = {name: value.astype(np.float64) for name, value in start_values().items()}
    means, squares = ({name: np.zeros_like(value) for name, value in values.items()} for _ in range(2))
    for update in range(1, UPDATES + 1):
        for name, gradient in mean_gradients(values, update).items():
            gradient = np.clip(gradient, -clip, clip) if clip else gradient
            means[name] = BETAS[0] * means[name] + (1 - BETAS[0]) * gradient
            squares[name] = BETAS[1] * squares[name] + (1 - BETAS[1]) * gradient**2
            mean, square = means[name] / (1 - BETAS[0] ** update), squares[name] / (1 - BETAS[1] ** update)
            decay = DECAY if name.endswith("weight") else 0
            values[name] = values[name] - LR / update * (mean / (np.sqrt(square) + EPSILON) + decay * values[name])
    kinds = {"arg": values, "mean": means, "variance": squares}
    return {f"{kind}:{name}": value for kind, arrays in kinds.items() for name, value in arrays.items()}


def assert_close(found, expected, allowed=2e-5):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=allowed, atol=allowed, err_msg=name)


@pytest.mark.parametrize("clip", [0.0, 0.1])
@pytest.mark.parametrize("devices", [[mx.cpu()], BOTH])
def test_adamw_is_the_published_algorithm(clip, devices):
    assert_close(stepped(made(ADAMW._replace(clip_gradient=clip), devices)), adamw_by_hand(clip))


def test_adamw_shrinks_weights_apart_from_the_gradient():
    """Where the gradient is 0 the weight shrinks by lr times the decay; in Adam with L2 it would move by lr."""
    values, gradient = mx.nd.array([[2.0, -3.0]]), mx.nd.zeros((1, 2))
    slots = [mx.nd.zeros((1, 2)), mx.nd.zeros((1, 2))]
    RowUpdate(ADAMW, 1.0, 0.1, 1).apply(values, gradient, slots)
    np.testing.assert_allclose(values.asnumpy(), [[2.0 * (1 - 0.1 * DECAY), -3.0 * (1 - 0.1 * DECAY)]], rtol=1e-6)
    RowUpdate(ADAMW, 1.0, 0.1, 2).apply(values, gradient, slots, decays=False)
    np.testing.assert_allclose(values.asnumpy(), [[2.0 * (1 - 0.1 * DECAY), -3.0 * (1 - 0.1 * DECAY)]], rtol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_averages_are_those_of_the_weights_after_each_update(decay):
    names = frozenset(NAMES[:3])
    trainer = made(SGD(lambda update: 0.02, averaging=Averaging(decay, names)))
    expected = {name: start_values()[name].astype(np.float64) for name in names}
    for update in range(1, UPDATES + 1):
        trainer.step(regression_batch(update))
        now, _ = trainer.parameters()
        kept = min(decay, (1 + update) / (10 + update))
        expected = {name: kept * value + (1 - kept) * now[name].asnumpy() for name, value in expected.items()}
    state = {name: value.asnumpy() for name, value in trainer.state().items()}
    assert {name for name in state if name.startswith("ema:")} == {f"ema:{name}" for name in names}
    averages, _ = trainer.averages()
    for name, value in expected.items():
        np.testing.assert_allclose(state[f"ema:{name}"], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(averages[name].asnumpy(), state[f"ema:{name}"])
        assert np.abs(state[f"arg:{name}"] - value).max() > 1e-4
    np.testing.assert_array_equal(averages["b_bias"].asnumpy(), state["arg:b_bias"])


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("rule", [SGD(lambda update: 0.02), ADAMW], ids=["sgd", "adamw"])
def test_parts_of_a_batch_make_the_update_of_the_whole_batch(rule, parts):
    assert_close(stepped(made(rule, parts=parts)), stepped(made(rule)), 1e-6)


def test_parts_are_what_devices_are_and_both_together(face_folder):
    """With BN, whose statistics each slice takes by itself."""
    settings = {"batch_size": 8, "max_updates": 3, "lr": 4e-7, "scale": 8, "m2": 0.1}
    states = []
    for devices, accumulate in ((BOTH * 2, 1), (BOTH, 2), ([mx.cpu()], 4)):
        devices = [mx.cpu(number) for number in range(len(devices))]
        out = face_folder.parent / f"parts-{len(devices)}-{accumulate}"
        train(tiny(**settings, accumulate=accumulate), data=face_folder, out=out, runtime=Runtime(devices))
        states.append({name: value.asnumpy() for name, value in newest_state(out).items()})
    for name, value in states[0].items():
        for other in states[1:]:
            least = 1e-3 * max(1.0, float(np.abs(value).max()))
            np.testing.assert_allclose(other[name], value, rtol=1e-3, atol=least, err_msg=name)


ALL = {
    "optimizer": "adamw",
    "lr": 0.002,
    "weight_decay": 0.05,
    "ema_decay": 0.9,
    "accumulate": 2,
    "schedule": "polynomial",
    "lr_power": 2.0,
    "save_every": 2,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, face_folder):
    """The folder of a run that was not stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    train(tiny(**ALL), data=face_folder, out=out)
    return out


@pytest.mark.parametrize("stop", [3, 4])
def test_a_resumed_run_ends_byte_for_byte_as_the_unbroken_one(stop, whole, face_folder, tmp_path):
    broken = tmp_path / "broken"
    with stopped_after(stop):
        train(tiny(**ALL), data=face_folder, out=broken)
    train(tiny(**ALL), data=face_folder, out=broken, resume=Resume(must=True))
    expected, found = (
        {key: one.asnumpy().tobytes() for key, one in newest_state(out).items()} for out in (whole, broken)
    )
    assert found == expected
    assert {key.partition(":")[0] for key in expected} == {"arg", "aux", "ema", "mean", "variance"}
    assert (whole / "latest-0000.params").read_bytes() == (broken / "latest-0000.params").read_bytes()


def test_means_that_began_late_would_make_too_large_updates_and_are_refused(face_folder, tmp_path):
    """In one coordinate with a constant gradient, a new AdamW moves by lr; without its means after 10,000 updates by more."""
    values, slots = mx.nd.zeros((1, 1)), [mx.nd.zeros((1, 1)), mx.nd.zeros((1, 1))]
    RowUpdate(AdamW(lambda update: 1.0, weight_decay=0.0), 1.0, 1.0, 10_000).apply(values, mx.nd.ones((1, 1)), slots)
    assert values.asscalar() == pytest.approx(-0.1 / 0.001**0.5, rel=1e-3)
    settings, forced = {"save_every": 2, "max_updates": 4, "verify_every": 4}, Resume(force=True)
    with stopped_after(3):
        train(tiny(**settings), data=face_folder, out=tmp_path)
    with pytest.raises(
        SettingError, match="has made 2 updates with optimizer=sgd, which keeps no means for adamw: .* init="
    ):
        train(tiny(**settings, optimizer="adamw"), data=face_folder, out=tmp_path, resume=forced)
    assert newest_state(tmp_path)
    train(tiny(**settings, momentum=0.5), data=face_folder, out=tmp_path, resume=forced)


@pytest.mark.parametrize("written", ["averaged", "trained"])
def test_what_is_verified_is_what_is_written(written, face_folder, pairs_file, tmp_path):
    config = tiny(ema_decay=0.9, checkpoint_weights=written, generations=2, max_updates=3)
    result = train(config, data=face_folder, out=tmp_path, bins=[pairs_file])
    first = tmp_path / "generation-1"
    state, saved = newest_state(first), parameters(first)
    kind = "ema" if written == "averaged" else "arg"
    for key, value in saved.items():
        expected = state[f"{kind}:{key[4:]}"] if written == "averaged" else state[key]
        np.testing.assert_array_equal(value, expected.asnumpy(), err_msg=key)
    assert any(np.abs(state[f"ema:{key[4:]}"].asnumpy() - state[key].asnumpy()).max() > 1e-5 for key in saved)
    score = verify_pairs(Embedder(*load_checkpoint(first / "latest", 0)), read_pairs(pairs_file))
    assert result.generations[0].verifications[3]["stripes"]["accuracy"] == score.accuracy
    # The next generation starts from what was written, and its average begins again there.
    assert result.generations[1].verifications[0] == result.generations[0].verifications[3]


def test_a_sharded_classifier_makes_the_updates_of_adamw(face_folder, tmp_path):
    """One shard and two, which update the same rows."""
    config = tiny(optimizer="adamw", lr=1e-5, head="sharded", max_updates=2, save_every=2)
    states = []
    for count in (1, 2):
        out = tmp_path / str(count)
        train(config, data=face_folder, out=out, runtime=Runtime([mx.cpu(number) for number in range(count)]))
        states.append(newest_state(out))
    assert states[0]["variance:fc7_weight/0"].asnumpy().any()
    assert set(states[0]) == set(states[1])
    assert "momentum:fc7_weight/0" not in states[0]


def test_rows_are_updated_as_the_published_algorithm_does():
    rows, slots = mx.nd.array(start_values()["a_weight"]), [mx.nd.zeros((5, 4)), mx.nd.zeros((5, 4))]
    values, mean, square = rows.asnumpy().astype(np.float64), 0.0, 0.0
    for update in range(1, 6):
        gradient = np.random.RandomState(update).normal(size=values.shape)
        RowUpdate(ADAMW, 0.5, LR, update).apply(rows, mx.nd.array(gradient), slots)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient / 2
        square = BETAS[1] * square + (1 - BETAS[1]) * (gradient / 2) ** 2
        step = mean / (1 - BETAS[0] ** update) / (np.sqrt(square / (1 - BETAS[1] ** update)) + EPSILON)
        values = values - LR * (step + DECAY * values)
    np.testing.assert_allclose(rows.asnumpy(), values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
def test_the_polynomial_schedule_by_hand(power):
    lr = learning_rate_schedule(
        lr=0.4, max_updates=110, schedule="polynomial", warmup_updates=10, lr_final=0.1, lr_power=power
    )
    for update in range(11, 111):
        share = (update - 11) / 99
        assert lr(update - 1) == pytest.approx(0.1 + 0.3 * (1 - share) ** power)
    assert lr(0) == 0
    assert lr(9) == pytest.approx(0.4)


def test_parts_that_do_not_divide_and_shards_in_parts_are_refused(face_folder, tmp_path):
    with pytest.raises(
        SettingError, match=r"batch_size=8: expected a multiple of devices x accumulate x workers \(3\)"
    ):
        train(tiny(accumulate=3), data=face_folder, out=tmp_path / "out")
    with pytest.raises(SettingError, match="accumulate=2 with head=sharded: .* give --set head=dense"):
        train(tiny(accumulate=2, head="sharded"), data=face_folder, out=tmp_path / "out")
    with pytest.raises(
        SettingError, match="accumulate=2: with head=dense each part would move centres of its own; .* accumulate=1"
    ):
        check_settings(tiny(loss="adadistill", accumulate=2), "mxnet", 1)
    check_settings(tiny(loss="adadistill"), "mxnet", 1)
    with pytest.raises(SettingError, match=r"multiple of the number of devices \(2\) times accumulate \(4\)"):
        made(ADAMW, BOTH, parts=4)
    assert not (tmp_path / "out").exists()
