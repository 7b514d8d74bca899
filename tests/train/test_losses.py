"""Short runs with every margin and distillation loss, and that stopped ones end as unbroken ones do."""

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.networks import save_random_checkpoint
from tests.helpers.training import newest_state, of_teacher, parameters, stopped_after, tiny
from vargfacenet.commands import main
from vargfacenet.errors import SettingError
from vargfacenet.symbols.margins import MARGINS
from vargfacenet.train.config import resolve
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import read_log
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.teacher import Teacher

TWO = [mx.cpu(0), mx.cpu(1)]
SHARDED, SAMPLED = {"head": "sharded"}, {"head": "sharded", "sample_rate": 0.5}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        *((name, {}) for name in MARGINS),
        *((name, SAMPLED) for name in ("adaface", "elasticface_arc_plus", "curricularface", "magface")),
    ],
)
def test_each_margin_loss_trains(name, head, face_folder, tmp_path):
    config = tiny(loss=name, scale=16, max_updates=2, **head)
    train(config, data=face_folder, out=tmp_path)
    state = newest_state(tmp_path)
    assert {key for key in state if key.startswith("aux:fc7")} == {
        f"aux:fc7_{key}" for key in config.cosine_head.margin.states
    }
    line = read_log(tmp_path)[-1]
    assert 0 < line["loss"] < 100
    assert not any("fc7" in key for key in parameters(tmp_path))


@pytest.mark.parametrize("head", [{}, SHARDED], ids=["dense", "sharded"])
def test_sub_centres_train(head, face_folder, tmp_path):
    train(tiny(loss="subcentre", scale=16, max_updates=2, **head), data=face_folder, out=tmp_path)
    assert sum(value.size for key, value in newest_state(tmp_path).items() if key.startswith("arg:fc7")) == 4 * 3 * 16


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("embedding_error", {}),
        ("rkd", {}),
        ("triplet", {}),
        ("triplet", {"loss": "none"}),
        ("rkd", SHARDED),
    ],
)
def test_each_distillation_trains(form, settings, face_folder, teacher, tmp_path):
    scale = {} if settings.get("loss") == "none" else {"scale": 16}
    config = tiny("demo_student", generations=1, distillation=form, max_updates=2, **scale, **settings)
    train(config, data=face_folder, out=tmp_path, teacher=teacher)
    line = read_log(tmp_path)[-1]
    assert line["distillation_loss"] > 0
    assert -1 < line["cosine"] < 1
    if not settings:
        expected = line["identity_loss"] + config.alpha * line["distillation_loss"]
        assert line["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("form", ["arcdistill", "margin_distillation"])
@pytest.mark.parametrize("head", [{}, SAMPLED], ids=["dense", "sampled"])
def test_the_teachers_classifier_stays_as_it_is_while_the_student_learns(
    form, head, face_folder, teacher, classifier, tmp_path
):
    config = of_teacher(loss=form, scale=16, lr=0.02, max_updates=20, warmup_updates=2, log_every=1, **head)
    train(config, data=face_folder, out=tmp_path, teacher=teacher.with_classifier_in(classifier))
    state = newest_state(tmp_path)
    kept = state["arg:fc7_weight/0" if head else "arg:fc7_weight"].asnumpy()
    np.testing.assert_array_equal(kept, np.load(classifier))
    losses = [line["loss"] for line in read_log(tmp_path)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_later_generations_keep_the_teachers_classifier(face_folder, teacher, classifier, tmp_path):
    config = of_teacher(loss="arcdistill", max_updates=1, warmup_updates=0, generations=2, classifier="new")
    with stopped_after(1):
        train(config, data=face_folder, out=tmp_path, teacher=teacher.with_classifier_in(classifier))
    train(config, data=face_folder, out=tmp_path, teacher=teacher, resume=Resume())
    found = newest_state(tmp_path / "generation-2")["arg:fc7_weight"].asnumpy()
    np.testing.assert_array_equal(found, np.load(classifier))


@pytest.mark.parametrize("devices", [None, TWO], ids=["dense", "sharded"])
def test_adadistills_centres_become_the_teachers(devices, face_folder, teacher, tmp_path):
    head = SHARDED if devices else {}
    config = of_teacher(loss="adadistill", scale=16, max_updates=6, mirror=False, color_jitter=0, **head)
    train(config, data=face_folder, out=tmp_path, teacher=teacher, runtime=Runtime(devices or [mx.cpu()]))
    state = newest_state(tmp_path)
    centres = state["arg:fc7_weight/0" if devices else "aux:fc7_centres"].asnumpy()
    assert ((np.linalg.norm(centres, axis=1) > 0.5) & (np.linalg.norm(centres, axis=1) < 1.001)).all()


ALONE = {"distillation": "none", "generations": 1}
STATEFUL = {
    "adaface": ("demo_student_scratch", {"loss": "adaface"}),
    "adaface-sharded": ("demo_student_scratch", {"loss": "adaface", **SAMPLED}),
    "curricularface": ("demo_student_scratch", {"loss": "curricularface"}),
    "curricularface-sharded": ("demo_student_scratch", {"loss": "curricularface", **SHARDED}),
    "elasticface": ("demo_student_scratch", {"loss": "elasticface_arc_plus"}),
    "elasticface-sampled": ("demo_student_scratch", {"loss": "elasticface_cos", **SAMPLED}),
    "adadistill": ("demo_student", {"loss": "adadistill", **ALONE}),
    "adadistill-sharded": ("demo_student", {"loss": "adadistill", **ALONE, **SHARDED}),
    "margin_distillation": ("demo_student", {"loss": "margin_distillation", **ALONE}),
}


@pytest.mark.parametrize("case", STATEFUL)
def test_a_stopped_run_ends_as_the_unbroken_one_to_the_last_bit(case, face_folder, teacher, classifier, tmp_path):
    recipe, settings = STATEFUL[case]
    config = tiny(recipe, scale=16, max_updates=4, save_every=2, **settings)
    given = {"data": face_folder}
    if recipe == "demo_student":
        given["teacher"] = teacher.with_classifier_in(classifier) if config.has_frozen_classifier else teacher
    train(config, out=tmp_path / "whole", **given)
    with stopped_after(3):
        train(config, out=tmp_path / "broken", **given)
    if config.has_frozen_classifier:
        given["teacher"] = teacher  # its classifier is part of the state
    assert train(config, out=tmp_path / "broken", resume=Resume(), **given).updates == 2
    whole, broken = newest_state(tmp_path / "whole"), newest_state(tmp_path / "broken")
    assert set(whole) == set(broken)
    for name, value in whole.items():
        np.testing.assert_array_equal(value.asnumpy(), broken[name].asnumpy(), err_msg=name)


def test_two_devices_keep_the_mean_of_their_moving_means(face_folder, tmp_path):
    config = tiny(loss="adaface", max_updates=4, save_every=2)
    train(config, data=face_folder, out=tmp_path / "whole", runtime=Runtime(TWO))
    with stopped_after(3):
        train(config, data=face_folder, out=tmp_path / "broken", runtime=Runtime(TWO))
    train(config, data=face_folder, out=tmp_path / "broken", runtime=Runtime(TWO), resume=Resume())
    whole, broken = newest_state(tmp_path / "whole"), newest_state(tmp_path / "broken")
    assert whole["aux:fc7_norm_mean"].asscalar() != 20
    for name, value in whole.items():
        np.testing.assert_array_equal(value.asnumpy(), broken[name].asnumpy(), err_msg=name)


@pytest.mark.parametrize("keep", ["keep", "new"])
def test_the_next_generation_keeps_moving_means_with_the_classifier_or_begins_them_again(
    keep, face_folder, teacher, tmp_path
):
    settings = {"loss": "adaface", "max_updates": 1, "warmup_updates": 0, "norm_momentum": 1, "classifier": keep}
    config = tiny("demo_student", generations=2, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vargfacenet.symbols.margins.adaface.AdaFace.states", {"norm_mean": 7.0, "norm_deviation": 3.0})
        with stopped_after(1):
            train(config, data=face_folder, out=tmp_path, teacher=teacher)
    train(config, data=face_folder, out=tmp_path, teacher=teacher, resume=Resume())
    found = newest_state(tmp_path / "generation-2")["aux:fc7_norm_mean"].asscalar()
    assert found == (7 if keep == "keep" else 20)


# Multi-step distillation.


def test_a_run_leaves_a_checkpoint_of_each_epoch_and_another_learns_from_them(face_folder, tmp_path, monkeypatch):
    network = {"network": "resnet18", "multiplier": 0.25, "units": None, "use_se": None}
    first = tiny("demo_teacher", **network, max_updates=6, save_epochs=True, batch_size=8)
    train(first, data=face_folder, out=tmp_path / "teacher")
    prefix = tmp_path / "teacher" / "epochs"
    assert sorted(path.name for path in prefix.parent.glob("epochs-0*")) == ["epochs-0001.params", "epochs-0002.params"]
    last = parameters(tmp_path / "teacher")
    for name, value in mx.nd.load(f"{prefix}-0002.params").items():
        np.testing.assert_array_equal(value.asnumpy(), last[name])
    seen = []
    given = Teacher.__init__

    def watched(self, prefix, epoch=0):
        seen.append(epoch)
        given(self, prefix, epoch)

    config = of_teacher(distillation="embedding_error", teacher_epochs=True)
    monkeypatch.setattr(Teacher, "__init__", watched)
    run = {"data": face_folder, "teacher": Teacher(prefix, 2)}
    train(config, out=tmp_path / "whole", **run)
    assert seen[1:] == [1, 2, 1, 2]  # checked, then in their epochs
    with stopped_after(4):
        train(config, out=tmp_path / "broken", **run)
    save_random_checkpoint(tmp_path / "other", "resnet18", multiplier=0.25, embedding_size=16)
    for epoch in (1, 2):
        (tmp_path / f"other-000{epoch}.params").write_bytes((tmp_path / "other-0000.params").read_bytes())
    with pytest.raises(SettingError, match="started on other data .*teacher"):
        train(
            config, out=tmp_path / "broken", resume=Resume(), data=face_folder, teacher=Teacher(tmp_path / "other", 2)
        )
    train(config, out=tmp_path / "broken", resume=Resume(), **run)
    whole, broken = newest_state(tmp_path / "whole"), newest_state(tmp_path / "broken")
    for name, value in whole.items():
        np.testing.assert_array_equal(value.asnumpy(), broken[name].asnumpy(), err_msg=name)


def test_a_missing_checkpoint_is_named_before_anything_is_written(face_folder, teacher, tmp_path):
    config = of_teacher(distillation="embedding_error", teacher_epochs=True)
    with pytest.raises(SettingError, match=r"each of 2 epochs.*model-0001.params is missing \(there are epochs 0\)"):
        train(config, data=face_folder, out=tmp_path / "out", teacher=teacher)
    assert not list((tmp_path / "out").glob("states/*"))


# Settings.


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("student_scratch", {"loss": "adafase"}, "unknown loss 'adafase': did you mean 'adaface'"),
        (
            "student_scratch",
            {"loss": "adaface", "deviation": 0.1},
            "loss=adaface has no option deviation: it has margin",
        ),
        ("student_scratch", {"loss": "softmax", "margin": 0.1}, "loss=softmax has no option margin: it has none"),
        ("student_scratch", {"loss": "adaface", "margin": 3}, "margin=3.0: expected between 0 and 1.6"),
        (
            "student_scratch",
            {"loss": "magface", "norm_low": 200},
            "norm_low=200 norm_high=110: expected the first below",
        ),
        ("student_scratch", {"loss": "softmax", "centres": 3}, "loss=softmax has no option centres: it has none"),
        ("student_scratch", {"teacher_epochs": True}, "teacher_epochs=true without distillation"),
        ("student", {"distillation": "triplet", "margin_low": 0.6}, "expected at most margin_high"),
        ("student", {"distillation": "triplet", "loss": "none", "mix": 0.5}, "mix=0.5: an image of two faces"),
        ("student", {"distillation": "rdk"}, "unknown distillation 'rdk': did you mean 'rkd'"),
    ],
)
def test_losses_that_do_not_fit_together_are_refused(recipe, settings, message):
    with pytest.raises(SettingError, match=message):
        resolve(recipe, settings)


def test_the_weight_of_a_distillation_is_the_published_one_unless_given():
    assert resolve("student").alpha == 7
    assert resolve("student", {"distillation": "embedding_error"}).alpha == 100
    assert resolve("student", {"distillation": "rkd"}).alpha == 1
    assert resolve("student", {"distillation": "rkd", "alpha": 3}).alpha == 3
    assert resolve("student", {"distillation": "squared_cosine"}).alpha == 7


def test_adadistill_in_the_graph_keeps_to_one_device(face_folder, teacher, tmp_path):
    config = of_teacher(loss="adadistill")
    with pytest.raises(SettingError, match="adadistill on 2 devices.* give --set head=sharded, or one device"):
        train(config, data=face_folder, out=tmp_path / "out", teacher=teacher, runtime=Runtime(TWO))
    assert not (tmp_path / "out").exists()


def test_stored_embeddings_are_of_one_teacher(face_folder, teacher, cache, tmp_path):
    config = of_teacher(distillation="angular", teacher_epochs=True)
    with pytest.raises(SettingError, match="teacher_epochs=true has a teacher for each epoch"):
        train(config, data=face_folder, out=tmp_path, teacher=teacher.stored_in(cache))


def test_the_command_takes_the_teachers_classifier(capsys, face_folder, teacher_prefix, classifier, tmp_path):
    tiny_network = [
        "multiplier=0.25",
        "units=1,1,1",
        "use_se=false",
        "embedding_size=16",
        "batch_size=8",
        "max_updates=2",
    ]
    command = ["train", "demo_student", "--data", str(face_folder), "--teacher", str(teacher_prefix)]
    command += ["--out", str(tmp_path / "out"), "--teacher-classifier", str(classifier), "--set", *tiny_network]
    given = ["generations=1", "distillation=none"]
    assert main([*command, *given, "loss=margin_distillation"]) == 0
    np.testing.assert_array_equal(newest_state(tmp_path / "out")["arg:fc7_weight"].asnumpy(), np.load(classifier))
    assert main([*command, "generations=1"]) == 2
    assert "--teacher-classifier is for loss=arcdistill and margin_distillation" in capsys.readouterr().err
