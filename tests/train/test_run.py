"""Training runs, small but whole: real builder, real reader, real checkpoints."""

import json

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.training import before_each_step, parameters, stopped_after, tiny
from vargfacenet.data.writer import write_records
from vargfacenet.devices import parse_devices
from vargfacenet.errors import DataError, SettingError, SetupError, TrainingError
from vargfacenet.eval import Embedder, read_pairs, verify_pairs, write_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.train import generation
from vargfacenet.train.callback import Callback
from vargfacenet.train.graph import training_graph
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.random_state import seed_random
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import read_log
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.trainer import Trainer

LEARNING = {"max_updates": 60, "verify_every": 30, "save_every": 30, "warmup_updates": 4, "scale": 16, "m2": 0.1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, face_folder, pairs_file):
    """A run that learns the four identities."""
    out = tmp_path_factory.mktemp("run") / "out"
    config = tiny(**LEARNING)
    return train(config, data=face_folder, out=out, bins=[pairs_file]), config


def test_a_run_learns(finished):
    result, _ = finished
    lines = read_log(result.out)
    assert [line["update"] for line in lines] == list(range(2, 61, 2))
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["accuracy"] > 0.75
    verifications = result.generations[0].verifications
    assert verifications[60]["stripes"]["accuracy"] >= verifications[0]["stripes"]["accuracy"]


def test_the_log_has_speed_waiting_and_learning_rate(finished):
    line = read_log(finished[0].out)[3]
    assert set(line) == {"update", "epoch", "loss", "accuracy", "lr", "images_per_second", "waiting"}
    assert line["images_per_second"] > 0
    assert 0 <= line["waiting"] < 1
    assert line["epoch"] == line["update"] * 8 // 24


def test_settings_are_saved_beside_the_checkpoint(finished):
    result, config = finished
    assert (result.out / "config.json").read_text() == config.to_json()


def test_the_lineages_loader_takes_the_checkpoint(finished):
    result, config = finished
    symbol, args, auxs = mx.model.load_checkpoint(str(result.out / "latest"), 0)
    assert symbol.list_arguments() == config.build_symbol().list_arguments()
    assert symbol.tojson() == config.build_symbol().tojson()  # the plain graph, not the one that trained
    assert set(args) == set(symbol.list_arguments()) - {"data"}  # and no classifier
    assert set(auxs) == set(symbol.list_auxiliary_states())


def test_the_best_checkpoint_scores_what_the_run_reported(finished, pairs_file):
    result, _ = finished
    assert result.generations[0].best_update in (30, 60)
    score = verify_pairs(Embedder(*load_checkpoint(result.out / "best", 0)), read_pairs(pairs_file))
    assert (
        score.accuracy == result.generations[0].verifications[result.generations[0].best_update]["stripes"]["accuracy"]
    )


def test_running_statistics_and_slopes_have_moved(finished):
    saved = parameters(finished[0].out)
    assert np.abs(saved["aux:vargface_head_conv1_bn_moving_mean"]).max() > 0
    slopes = saved["arg:vargface_head_conv1_act_gamma"]
    assert np.abs(slopes - 0.25).max() > 1e-5
    assert slopes.shape == (8,)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, face_folder):
    """Parameters that a run ends with, by its number of devices."""
    found = {}
    for count in (1, 2):
        out = tmp_path_factory.mktemp("unbroken") / "out"
        train(tiny(), data=face_folder, out=out, runtime=Runtime([mx.cpu(number) for number in range(count)]))
        found[count] = parameters(out)
    return found


@pytest.mark.parametrize(("stop", "count"), [(3, 1), (4, 1), (4, 2)])
def test_a_resumed_run_ends_as_the_unbroken_one(unbroken, tmp_path, face_folder, stop, count):
    devices = [mx.cpu(number) for number in range(count)]
    with stopped_after(stop):
        train(tiny(), data=face_folder, out=tmp_path / "broken", runtime=Runtime(devices))
    resumed = train(tiny(), data=face_folder, out=tmp_path / "broken", runtime=Runtime(devices), resume=Resume())
    assert resumed.updates == 3
    assert [line["update"] for line in read_log(tmp_path / "broken")] == [2, 4, 6]
    whole, broken = unbroken[count], parameters(tmp_path / "broken")
    for name in whole:
        np.testing.assert_array_equal(whole[name], broken[name], err_msg=name)


@pytest.mark.parametrize("count", [2, 3])
def test_several_devices_train_as_one_does(count):
    """Without BN's statistics, which each device takes of its own slice, the slices add up to the batch."""
    data = mx.nd.array(np.random.RandomState(0).uniform(0, 255, (12, 3, 112, 112)))
    label = mx.nd.array([0, 1, 2, 3] * 3)
    trained, start = [], None
    for devices in ([mx.cpu(0)], [mx.cpu(number) for number in range(count)]):
        seed_random(1, 1, 0)
        config = tiny()
        nodes = json.loads(config.build_symbol().tojson())
        for node in nodes["nodes"]:
            if node["op"] == "BatchNorm":
                node["attrs"]["use_global_stats"] = "True"
        trainer = Trainer(
            training_graph(mx.sym.load_json(json.dumps(nodes)), config, 4),
            data={"data": data.shape},
            labels={"softmax_label": label.shape},
            sgd=SGD(lambda update: 0.01),
            runtime=Runtime(devices),
        )
        if start is None:
            start = {name: value.copy() for name, value in trainer.state().items()}
        trainer.load_state(start)
        for _ in range(2):
            outputs = trainer.step(mx.io.DataBatch([data], [label])).outputs
        assert outputs["loss"].shape == (12,)
        trained.append(trainer.state())
    assert any(name.startswith("momentum:") for name in trained[1])
    assert max(np.abs((trained[0][name] - value).asnumpy()).max() for name, value in start.items()) > 1e-3
    for name, value in trained[0].items():
        np.testing.assert_allclose(value.asnumpy(), trained[1][name].asnumpy(), rtol=0, atol=1e-6, err_msg=name)


def test_scales_and_slopes_may_be_spared_the_weight_decay():
    for decay_norm in (True, False):
        config = tiny(decay_norm=decay_norm)
        attributes = training_graph(config.build_symbol(), config, 4).attr_dict()
        spared = {name for name, attrs in attributes.items() if attrs.get("__wd_mult__") == "0"}
        assert bool(spared) != decay_norm
        assert all(name.endswith("_gamma") for name in spared)
        assert decay_norm or {"fc1_gamma", "vargface_head_conv1_act_gamma"} <= spared


def test_plain_softmax_trains_too(face_folder, tmp_path):
    result = train(tiny(loss="softmax", max_updates=2), data=face_folder, out=tmp_path / "out")
    assert result.updates == 2
    assert not any("fc7" in name for name in parameters(result.out))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(face_folder, tmp_path, monkeypatch):

    def poison(trainer, batch):
        trainer.seen = getattr(trainer, "seen", 0) + 1
        if trainer.seen == 5:
            batch.data[0][:] = np.nan

    before_each_step(monkeypatch, poison)
    with pytest.raises(TrainingError, match=r"update 5: the loss is nan at learning rate .* Try a smaller lr"):
        train(tiny(), data=face_folder, out=tmp_path / "out")
    assert all(np.isfinite(value).all() for value in parameters(tmp_path / "out").values())


def test_a_folder_with_a_run_is_not_overwritten(finished, face_folder):
    result, config = finished
    with pytest.raises(SettingError, match="already holds a run; give --resume"):
        train(config, data=face_folder, out=result.out)


def test_a_finished_run_says_so(finished, face_folder):
    result, config = finished
    with pytest.raises(SettingError, match=r"is finished \(60 updates\)"):
        train(config, data=face_folder, out=result.out, resume=Resume())


def test_resuming_with_other_settings_names_them(finished, face_folder):
    result, _ = finished
    other = tiny(**{**LEARNING, "lr": 0.2})
    with pytest.raises(SettingError, match=r"lr: 0.05 then, 0.2 now"):
        train(other, data=face_folder, out=result.out, resume=Resume())


def half_done(face_folder, out, bins=()):
    """A run stopped after its first save, and its settings."""
    with stopped_after(4):
        train(tiny(), data=face_folder, out=out, bins=bins)
    return {"config": tiny(), "out": out, "resume": Resume()}


def test_resuming_on_other_data_says_so(face_folder, pairs_file, pairs_set, tmp_path):
    resume = half_done(face_folder, tmp_path / "out", [pairs_file])
    write_records(tmp_path / "others", ((n // 3, encode_jpeg(image(n // 3, n % 3))) for n in range(9)))
    with pytest.raises(SettingError, match="images: 24 then, 9 now; identities: 4 then, 3 now"):
        train(data=tmp_path / "others", bins=[pairs_file], **resume)
    with pytest.raises(SettingError, match="verification: .'stripes': .* then, {} now"):
        train(data=face_folder, **resume)
    write_pairs(tmp_path / "stripes.bin", pairs_set[0], [not same for same in pairs_set[1]])
    with pytest.raises(SettingError, match="verification: .'stripes': .* then, .'stripes'"):
        train(data=face_folder, bins=[tmp_path / "stripes.bin"], **resume)


def test_resuming_with_folders_in_another_order_is_refused(face_folder, tmp_path):
    write_records(tmp_path / "others", ((n, encode_jpeg(image(n, 0))) for n in range(3)))
    folders = [face_folder, tmp_path / "others"]
    resume = half_done(folders, tmp_path / "out")
    with pytest.raises(SettingError, match="records: .* then, .* now"):
        train(data=folders[::-1], **resume)
    assert train(data=folders, **resume).updates == 3


def test_a_resumed_run_with_dropout_ends_as_the_unbroken_one(face_folder, tmp_path):
    config = tiny(network="resnet18", units=(1, 1, 1, 1))
    assert "Dropout" in config.build_symbol().tojson()
    train(config, data=face_folder, out=tmp_path / "whole")
    with stopped_after(4):
        train(config, data=face_folder, out=tmp_path / "broken")
    train(config, data=face_folder, out=tmp_path / "broken", resume=Resume())
    whole, broken = parameters(tmp_path / "whole"), parameters(tmp_path / "broken")
    for name in whole:
        np.testing.assert_array_equal(whole[name], broken[name], err_msg=name)


def test_images_of_another_size_are_refused(face_folder, tmp_path):
    for name in ("train.rec", "train.idx"):
        (tmp_path / name).write_bytes((face_folder / name).read_bytes())
    (tmp_path / "property").write_text("4,96,112")
    with pytest.raises(DataError, match="holds 96x112 images, networks here take 112x112"):
        train(tiny(), data=tmp_path, out=tmp_path / "out")


def test_a_run_stopped_before_its_first_save_can_be_started_again(face_folder, tmp_path):
    with stopped_after(0):
        train(tiny(max_updates=2), data=face_folder, out=tmp_path / "out")
    assert train(tiny(max_updates=2), data=face_folder, out=tmp_path / "out").updates == 2


def test_a_verification_set_that_is_too_small_is_refused_before_training(face_folder, tmp_path, pairs_set):
    write_pairs(tmp_path / "few.bin", pairs_set[0][:8], pairs_set[1][:4])
    with pytest.raises(DataError, match="few.bin holds 4 pairs, too few"):
        train(tiny(), data=face_folder, out=tmp_path / "out", bins=[tmp_path / "few.bin"])
    assert not (tmp_path / "out").exists()


def test_resuming_nothing_says_so(face_folder, tmp_path):
    with pytest.raises(SettingError, match="holds no run to resume"):
        train(tiny(), data=face_folder, out=tmp_path / "none", resume=Resume(must=True))
    assert not (tmp_path / "none").exists()


def test_devices_are_read_and_checked():
    assert parse_devices("cpu:0, cpu:1") == [mx.cpu(0), mx.cpu(1)]
    assert parse_devices("cpu") == [mx.cpu(0)]
    with pytest.raises(SettingError, match="device 'tpu:0': expected cpu:N or gpu:N"):
        parse_devices("tpu:0")
    with pytest.raises(SettingError, match="given twice"):
        parse_devices("cpu:0,cpu:0")
    with pytest.raises(SetupError, match=r"gpu\(99\): MXNet sees"):
        parse_devices("gpu:99")


def test_a_batch_must_divide_among_the_devices(face_folder, tmp_path):
    with pytest.raises(SettingError, match="multiple of the number of devices"):
        train(tiny(batch_size=7), data=face_folder, out=tmp_path / "out", runtime=Runtime([mx.cpu(0), mx.cpu(1)]))


def test_whatever_fails_before_the_first_update_closes_the_iterator_and_the_callbacks(
    face_folder, pairs_file, tmp_path, monkeypatch
):
    closed = []
    monkeypatch.setattr(generation.FaceIterator, "close", lambda self: closed.append("iterator"))

    class Watching(Callback):
        def close(self):
            closed.append("callback")

    monkeypatch.setattr(generation, "make_callbacks", lambda context: [Watching()])
    monkeypatch.setattr(generation, "_writer", lambda *_: (_ for _ in ()).throw(DataError("no writer")))
    with pytest.raises(DataError, match="no writer"):
        train(tiny(), data=face_folder, out=tmp_path, bins=[pairs_file])
    assert closed == ["callback", "iterator"]
