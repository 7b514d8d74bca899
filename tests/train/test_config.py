"""Settings: defaults, then recipe, then what was set by hand; and the schedule they describe."""

import json
import math

import pytest

from vargfacenet.errors import SettingError
from vargfacenet.symbols import list_networks, network_options
from vargfacenet.train.config import Config, resolve
from vargfacenet.train.recipes import is_demo, list_recipes, load_recipe, recipe_summary
from vargfacenet.train.schedule import learning_rate_schedule


def test_settings_by_hand_win_over_the_recipe_and_the_recipe_over_defaults():
    recipe = load_recipe("demo_student_scratch")
    assert Config().batch_size == 512 != recipe["batch_size"]
    config = resolve("demo_student_scratch", {"batch_size": "24", "use_se": "false", "units": "2,2,1"})
    assert (config.batch_size, config.network_options["use_se"], config.network_options["units"]) == (
        24,
        False,
        (2, 2, 1),
    )
    assert config.network_options["multiplier"] == recipe["multiplier"]
    assert config.momentum == Config().momentum


@pytest.mark.parametrize("recipe", list_recipes())
def test_every_recipe_resolves_and_says_what_it_is(recipe):
    config = resolve(recipe)
    assert config.build_symbol().list_outputs() == ["fc1_output"]
    assert len(recipe_summary(recipe)) > 20
    assert is_demo(recipe) == recipe.startswith("demo")


def test_the_papers_scale_is_the_lineages():
    config = resolve("student_scratch")
    published = {name: option.default for name, option in network_options("vargfacenet").items()}
    assert {**config.network_options, "embedding_size": 512} == published
    assert (config.network, config.embedding_size, config.batch_size) == ("vargfacenet", None, 512)
    assert (config.lr, config.momentum, config.weight_decay) == (0.1, 0.9, 5e-4)
    assert (config.loss, config.loss_options) == ("margin", {"m1": 1.0, "m2": 0.5, "m3": 0.0, "scale": 64.0})
    assert tuple(config.lr_milestones) == (100_000, 160_000, 220_000)


def test_settings_survive_their_json():
    config = resolve("student_scratch", {"seed": 3})
    again = json.loads(config.to_json())
    assert again["seed"] == 3
    assert again["network"] == "vargfacenet"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batchsize": 3}, "unknown setting 'batchsize': did you mean 'batch_size'"),
        ({"batch_size": 0}, "batch_size=0: expected between 1 and 65536"),
        ({"batch_size": "many"}, "batch_size='many': expected a whole number"),
        ({"batch_size": 2.5}, "expected a whole number"),
        ({"lr": "nan"}, "lr='nan': expected a number"),
        ({"lr": "inf"}, "lr='inf': expected a number"),
        ({"max_updates": 10**400}, "expected a whole number"),
        ({"m2": 3}, "m2=3.0: expected between 0 and 1.6 radians"),
        ({"mirror": "perhaps"}, "mirror='perhaps': expected true or false"),
        ({"loss": "ArcFace"}, "unknown loss 'ArcFace': ArcFace is loss=margin with m2=0.5, its default"),
        ({"loss": "cos_face"}, "unknown loss 'cos_face': CosFace is loss=margin with m2=0 m3=0.35"),
        ({"loss": "margins"}, "unknown loss 'margins': did you mean 'margin'"),
        ({"head": "shard"}, "unknown head 'shard': did you mean 'sharded'"),
        ({"head": "sharded", "sample_rate": 0}, "sample_rate=0.0: expected between 1e-06 and 1"),
        ({"sample_rate": 0.1}, "sample_rate=0.1 is of a classifier in shards: give --set head=sharded too"),
        (
            {"head": "sharded", "loss": "none", "distillation": "angular"},
            "head=sharded sample_rate=1: loss=none has no classifier",
        ),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"warmup_updates": 10**7}, "expected fewer than max_updates"),
        ({"network": "vargfacenet2"}, "unknown network"),
        ({"network": "resnet18", "group_size": 4}, "resnet18 has no option group_size"),
        ({"network": "edgeface", "width": 1}, "edgeface has no option width: it has size, rank_ratio, embedding_size"),
        ({"network": "edgeface", "size": "xl"}, "unknown size 'xl'"),
        ({"network": "ghostfacenet", "version": "two"}, "version='two': expected a whole number"),
        ({"multiplier": 0.1}, "do not divide into groups"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(settings, message):
    with pytest.raises(SettingError, match=message):
        resolve("student_scratch", settings)


@pytest.mark.parametrize("network", list_networks())
def test_every_option_of_every_network_is_a_setting(network):
    for option, declared in network_options(network).items():
        config = resolve("student_scratch", {"network": network, option: declared.default})
        found = config.embedding_size if option == "embedding_size" else config.network_options[option]
        assert found == declared.default


def test_a_network_is_trained_with_its_own_options():
    config = resolve("student_scratch", {"network": "ghostfacenet", "version": "2", "width": "0.5", "stride": "2"})
    assert config.network_options == {"version": 2, "width": 0.5, "stride": 2, "bn_eps": 1e-5}
    assert json.loads(config.to_json())["network_options"]["width"] == 0.5


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(SettingError, match="did you mean 'student_scratch'"):
        resolve("student_scrach")


def test_warm_up_is_linear_and_the_cosine_is_half_a_wave():
    rate = learning_rate_schedule(lr=0.4, max_updates=1100, schedule="cosine", warmup_updates=100, lr_final=0.1)
    assert rate(0) == 0
    assert rate(50) == pytest.approx(0.4 * 50 / 99, rel=1e-6)
    for update in (100, 350, 600, 1098):
        expected = 0.1 + 0.3 * (1 + math.cos(math.pi * (update - 100) / 999)) / 2
        assert rate(update) == pytest.approx(expected, rel=1e-3)
    assert rate(1100) == pytest.approx(0.1)


def test_steps_fall_at_their_updates():
    rate = learning_rate_schedule(
        lr=0.1, max_updates=1000, schedule="step", warmup_updates=10, lr_milestones=(300, 600, 5000), lr_factor=0.1
    )
    found = [rate(update) for update in (10, 299, 300, 599, 600, 999)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_without_warm_up_the_rate_begins_at_its_height():
    assert learning_rate_schedule(lr=0.2, max_updates=100)(0) == pytest.approx(0.2)


def test_a_mixed_image_has_no_label():
    with pytest.raises(SettingError, match="mix=0.5: an image of two faces has no one label; give --set loss=none"):
        resolve("demo_student", {"mix": 0.5})
