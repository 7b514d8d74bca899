"""Declarations of settings, and what derives from them: checks, tables, aliases, files, and what a resumed run may change."""

import copy
import dataclasses
import json
import logging
import pathlib
import pickle

import numpy as np
import pytest

from tests.helpers.training import parameters, stopped_after, tiny
from vargfacenet.commands import main
from vargfacenet.data import Augmentation
from vargfacenet.errors import SettingError
from vargfacenet.options import declared_settings
from vargfacenet.symbols import list_losses, list_networks, network_options
from vargfacenet.train import Config, Resume, read_config, resolve, train
from vargfacenet.train.config import config_from, fixed_settings
from vargfacenet.train.settings import ALIASES, GROUPS, SETTINGS
from vargfacenet.train.settings_table import markdown_page, tables_of
from vargfacenet.train.training_state import TrainingStates

ROOT = pathlib.Path(__file__).parents[2]

# What config.json of a run of demo_student_scratch held before options had owners.
EARLIER = {
    "embedding_size": 128,
    "multiplier": 0.25,
    "group_size": None,
    "units": [2, 3, 2],
    "use_se": None,
    "activation": None,
    "head_pooling": None,
    "dropout": None,
    "size": None,
    "rank_ratio": None,
    "version": None,
    "width": None,
    "stride": None,
    "bn_eps": None,
    "shuffle": None,
    "last_channels": None,
    "network": "vargfacenet",
    "loss": "margin",
    "m1": 1.0,
    "m2": 0.3,
    "m3": 0.0,
    "scale": 32.0,
    "head": "dense",
    "sample_rate": 1.0,
    "distillation": "none",
    "alpha": 7.0,
    "teacher_mirror": False,
    "generations": 1,
    "classifier": "keep",
    "generation_lr": 1.0,
    "batch_size": 32,
    "max_updates": 320,
    "seed": 0,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "decay_norm": False,
    "clip_gradient": 0.0,
    "precision": "float32",
    "loss_scale": 1024.0,
    "schedule": "cosine",
    "lr_steps": [100000, 160000, 220000],
    "lr_factor": 0.1,
    "lr_final": 0.0,
    "warmup_updates": 30,
    "mirror": True,
    "shift": 0,
    "color_jitter": 0.0,
    "cutoff": 0,
    "compress": 0.0,
    "mix": 0.0,
    "max_bad_share": 0.001,
    "verify_every": 320,
    "save_every": 40,
    "log_every": 10,
    "keep": 2,
}


def test_every_setting_says_what_it_is_and_its_default_is_allowed():
    for setting in SETTINGS.values():
        assert len(setting.about.help) > 10
        assert setting.check(setting.default) == setting.default
    assert set(SETTINGS) == {name for group in GROUPS for name in declared_settings(group)}


@pytest.mark.parametrize("network", list_networks())
def test_every_option_of_a_network_says_what_it_is_and_its_default_is_allowed(network):
    for option in network_options(network).values():
        assert len(option.about.help) > 10
        assert option.check(option.default) == option.default


@pytest.mark.parametrize("name", [name for name, one in SETTINGS.items() if one.about.high is not None])
def test_both_ends_of_a_range_are_allowed_and_nothing_beyond(name):
    setting = SETTINGS[name]
    low, high = setting.about.low, setting.about.high
    for value in (low, high):
        value = (value,) if setting.type_name.endswith("...") else value
        assert setting.check(value) == value
    for value in (low - 1, high + 1):
        with pytest.raises(SettingError, match=f"{name}=.*: expected between {low} and {high}"):
            setting.check(value)


@pytest.mark.parametrize(("option", "beyond"), [("shift", 57), ("color_jitter", 1.5), ("cutoff", -1), ("compress", 2)])
def test_the_bounds_of_augmentation_are_those_of_the_settings(option, beyond):
    with pytest.raises(SettingError) as of_augmentation:
        Augmentation(**{option: beyond})
    with pytest.raises(SettingError) as of_settings:
        resolve("student_scratch", {option: beyond})
    assert str(of_augmentation.value) == str(of_settings.value)


def test_a_former_name_is_understood_and_the_present_one_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        config = resolve("student_scratch", {"keep": "5", "lr_steps": "10,20", "generation_lr": 0.5})
    assert (config.keep_states, config.lr_milestones, config.generation_lr_factor) == (5, (10, 20), 0.5)
    for former, present in (("keep", "keep_states"), ("lr_steps", "lr_milestones")):
        assert f"the setting {former} is now called {present}" in caplog.text
    with pytest.raises(SettingError, match="keep_states is given twice, once by its former name"):
        resolve("student_scratch", {"keep": 3, "keep_states": 4})


def test_no_former_name_is_a_name():
    assert not set(ALIASES) & set(SETTINGS)


def test_a_config_is_frozen_with_all_its_options():
    config = resolve("demo_student_scratch")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.lr = 1.0
    with pytest.raises(TypeError, match="read-only"):
        config.network_options["multiplier"] = 1.0
    with pytest.raises(TypeError, match="read-only"):
        config.loss_options.update(m2=0.1)
    for same in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), dataclasses.replace(config)):
        assert same == config


def test_a_config_made_by_hand_is_checked():
    config = Config(network_options={"multiplier": "0.5"}, loss_options={"m2": 0.4}, batch_size="64")
    assert (config.network_options["multiplier"], config.loss_options["m2"], config.batch_size) == (0.5, 0.4, 64)
    with pytest.raises(SettingError, match="batch_size=0: expected between 1"):
        Config(batch_size=0)
    with pytest.raises(SettingError, match="unknown option of vargfacenet 'multiplyer': did you mean 'multiplier'"):
        Config(network_options={"multiplyer": 1.0})


def test_settings_survive_their_file(tmp_path):
    config = resolve("demo_student", {"seed": 3, "units": (2, 2, 1), "m2": 0.4})
    (tmp_path / "config.json").write_text(config.to_json())
    assert read_config(tmp_path / "config.json") == config


def test_a_file_of_an_earlier_version_is_read():
    assert config_from(json.loads(json.dumps(EARLIER))) == resolve("demo_student_scratch")
    other = {**EARLIER, "network": "ghostfacenet", "multiplier": None, "units": None, "width": 0.5, "loss": "softmax"}
    config = config_from(other)
    assert config.network_options == {"version": 1, "width": 0.5, "stride": 1, "bn_eps": 1e-5}
    assert config.loss_options == {}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(SettingError, match=r"config.json: expected a JSON object of settings"):
        read_config(tmp_path / "config.json")


def test_what_a_resumed_run_may_change_is_declared():
    config = resolve("demo_student")
    fixed = fixed_settings(config)
    may_change = {name for name, setting in SETTINGS.items() if setting.about.may_change}
    assert may_change == {
        *("verify_every", "save_every", "log_every", "generations", "save_epochs", "keep_states", "max_bad_share"),
        *("callbacks", "engine", "channels_last", "compile", "cuda_graphs", "readers", "check_memory"),
    }
    assert not may_change & set(fixed)
    assert fixed["network.multiplier"] == 0.25
    assert fixed["loss.m2"] == 0.3
    assert fixed_settings(dataclasses.replace(config, save_every=7)) == fixed
    assert fixed_settings(dataclasses.replace(config, lr=0.5)) != fixed


def test_options_may_name_their_owner():
    config = resolve("student_scratch", {"network.multiplier": 0.5, "loss.m2": 0.1, "margin.scale": 16})
    assert config.network_options["multiplier"] == 0.5
    assert (config.loss_options["m2"], config.loss_options["scale"]) == (0.1, 16.0)
    nested = resolve("student_scratch", {"network_options": {"multiplier": 0.5}, "margin": {"m2": 0.1, "scale": 16}})
    assert nested == config


def test_options_of_a_recipe_whose_owner_is_replaced_are_left_out(caplog):
    with caplog.at_level(logging.INFO):
        config = resolve("demo_student_scratch", {"network": "mobilefacenet", "loss": "softmax"})
    assert (config.network_options, config.loss_options) == ({}, {})
    assert "the recipe's units is left out: it is an option of vargfacenet" in caplog.text


def test_a_recipe_may_hold_options_for_a_loss_that_it_does_not_choose():
    assert resolve("small_student").loss_options == {}
    assert resolve("small_student", {"loss": "margin"}).loss_options["scale"] == 32.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "softmax", "m2": 0.3}, "loss=softmax has no option m2: it has none"),
        ({"loss": "softmax", "margin.m2": 0.3}, "loss=softmax has no option m2"),
        ({"network.m2": 0.3}, "vargfacenet has no option m2"),
        ({"network.multiplyer": 0.3}, "vargfacenet has no option multiplyer: it has embedding_size, multiplier"),
        ({"loss.m2": 7}, "loss.m2=7.0: expected between 0 and 1.6 radians"),
        ({"augmentations": "blur"}, "unknown augmentation 'blur': there are none"),
    ],
)
def test_an_option_without_an_owner_is_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        resolve("student_scratch", settings)


def test_the_page_of_settings_is_current():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == markdown_page(), "run: python -m vargfacenet.train.settings_table docs/settings.md"
    for name in (*SETTINGS, "multiplier", "rank_ratio", "m2"):
        assert f"| {name}" in page


def test_tables_show_the_values_of_a_config():
    rows = {row[0]: row for table in tables_of(resolve("demo_student_scratch")) for row in table.rows}
    assert rows["lr"][2] == "0.05"
    assert rows["units"][2] == "2,3,2"
    assert rows["m2"][2:4] == ["0.3", "0 .. 1.6 radians"]
    assert rows["keep_states*"][4].endswith("Formerly keep.")
    assert {row[0] for table in tables_of() for row in table.rows} == {
        f"{name}*" if setting.about.may_change else name for name, setting in SETTINGS.items()
    }


def test_losses_of_this_package_are_registered():
    assert list_losses()[:2] == ["margin", "softmax"]


def test_a_run_of_an_earlier_version_resumes(face_folder, tmp_path, monkeypatch):
    """The folder's states hold settings as versions before this one wrote them."""
    config = tiny(max_updates=4, save_every=2)
    of_now = config.to_dict()

    def earlier(self):
        flat = {name: value for name, value in of_now.items() if not name.endswith("_options")}
        flat["keep"], flat["lr_steps"] = flat.pop("keep_states"), flat.pop("lr_milestones")
        flat["generation_lr"] = flat.pop("generation_lr_factor")
        for name in ("augmentations", "callbacks"):
            flat.pop(name)
        options = dict.fromkeys(("width", "size", "stride", "dropout"))
        return {**flat, **options, **of_now["network_options"], **of_now["loss_options"]}

    with monkeypatch.context() as patch, stopped_after(2):
        patch.setattr(Config, "to_dict", earlier)
        train(config, data=face_folder, out=tmp_path / "out")
    assert "keep" in newest_settings(tmp_path / "out")
    with pytest.raises(SettingError, match=r"with other settings \(network.use_se: False then, True now"):
        train(tiny(max_updates=4, use_se=True), data=face_folder, out=tmp_path / "out", resume=Resume())
    train(config, data=face_folder, out=tmp_path / "out", resume=Resume())
    assert newest_settings(tmp_path / "out") == of_now
    unbroken = train(config, data=face_folder, out=tmp_path / "unbroken")
    for name, value in parameters(unbroken.out).items():
        np.testing.assert_array_equal(parameters(tmp_path / "out")[name], value)


def newest_settings(out):
    return TrainingStates(out).newest().facts["settings"]


def test_settings_are_printed_without_a_recipe(capsys):
    assert main(["train", "--help-settings"]) == 0
    printed = capsys.readouterr().out
    for group in GROUPS:
        assert f"\n{group.__doc__.rstrip('.')}\n" in f"\n{printed}"
    for name in SETTINGS:
        assert f"\n{name}" in printed
