"""A package that is not ours adds a network, losses, an augmentation, a callback and a recipe, and trains them."""

import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
from typing import Annotated

import mxnet as mx
import numpy as np
import pytest

import vargfacenet.data.augment as augment
from tests.helpers.command_line import refused
from tests.helpers.training import tiny
from vargfacenet import registry
from vargfacenet.commands import main
from vargfacenet.data import Augmentation, register_augmentation
from vargfacenet.errors import SettingError
from vargfacenet.options import About
from vargfacenet.symbols import register_distillation, register_loss, register_network
from vargfacenet.symbols.registry import DISTILLATIONS, LOSSES, NETWORKS
from vargfacenet.train import read_config, register_callback, train
from vargfacenet.train.callback import CALLBACKS
from vargfacenet.train.recipes import RECIPES

PACKAGE = pathlib.Path(__file__).parents[1] / "extension_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which pip has installed the package, and nothing else."""
    folder = tmp_path_factory.mktemp("extension")
    shutil.copytree(PACKAGE, folder / "source")  # pip builds next to the source
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", folder / "site", folder / "source"]
    subprocess.run(command, check=True)
    return folder / "site"


@pytest.fixture
def added():
    """Forget in the end what a test registers."""
    registries = (NETWORKS, LOSSES, DISTILLATIONS, CALLBACKS, RECIPES, augment.AUGMENTATIONS)
    before = [(dict(one._entries), dict(one._sources)) for one in registries]
    yield
    for one, (entries, sources) in zip(registries, before):
        one._entries, one._sources = entries, sources


@pytest.fixture
def at_hand(installed, added, monkeypatch, tmp_path):
    """The package is installed for this process until the test is over; the working folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(installed))
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "face_extras"]:
        del sys.modules[name]


@pytest.mark.usefixtures("at_hand")
def test_everything_that_the_package_adds_trains_by_name(face_folder, teacher_prefix, tmp_path):
    options = ["--data", str(face_folder), "--teacher", str(teacher_prefix), "--out", "out"]
    assert main(["train", "plain_student", *options]) == 0
    out = tmp_path / "out"
    values = json.loads((out / "config.json").read_text())
    assert (values["network"], values["network_options"]) == ("plainnet", {"widths": [4, 8], "scale": 1 / 64})
    assert (values["loss"], values["loss_options"]) == ("smoothed_softmax", {"smoothing": 0.1, "scale": 8.0})
    assert (values["distillation"], values["distillation_options"]) == ("huber", {"width": 0.5})
    assert values["augmentation_options"] == {"darken": {"most": 0.25}}
    assert values["callback_options"] == {"weight_norms": {"every": 2}}
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"loss", "identity_loss", "distillation_loss", "cosine", "accuracy"} <= set(lines[-1])
    saved = mx.nd.load(str(out / "latest-0000.params"))
    assert saved["arg:plain2_weight"].shape == (8, 4, 3, 3)
    assert not any(name.startswith("arg:fc7") for name in saved)
    norms = [line.split() for line in (out / "norms.txt").read_text().splitlines()]
    assert [update for update, _ in norms] == ["2", "4"]
    assert float(norms[-1][1]) == pytest.approx(saved["arg:fc1_weight"].norm().asscalar(), rel=1e-5)


def test_several_workers_train_what_the_package_adds(installed, face_folder, teacher_prefix, tmp_path):
    """In processes of their own, which find the package where Python does."""
    paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    options = ["--data", str(face_folder), "--teacher", str(teacher_prefix), "--out", "out"]
    launch = ["launch", "--local", "2", "--servers", "1", "--", "train", "plain_student", *options]
    run = subprocess.run(
        [sys.executable, "-m", "vargfacenet", *launch],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    saved = mx.nd.load(str(tmp_path / "out" / "latest-0000.params"))
    norms = [line.split() for line in (tmp_path / "out" / "norms.txt").read_text().splitlines()]
    assert [update for update, _ in norms] == ["2", "4"]
    assert float(norms[-1][1]) == pytest.approx(saved["arg:fc1_weight"].norm().asscalar(), rel=1e-5)


@pytest.mark.usefixtures("at_hand")
def test_what_the_package_adds_is_listed_with_its_options(capsys):
    assert main(["train", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "plain_student" in listed
    assert "A plain network on everything that this package adds." in listed
    assert main(["train", "plain_student", "--help-settings"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "Options of plainnet",
        "Options of loss=smoothed_softmax",
        "Options of augmentation darken",
        "0 .. 0.9",
    ):
        assert text in shown
    assert main(["summary", "plainnet", "--set", "widths=4,8"]) == 0
    assert "plain2" in capsys.readouterr().out


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["scale=3"], "scale is an option of plainnet and of loss=smoothed_softmax: give network.scale or loss.scale"),
        (["smoothing=2"], "smoothing=2.0: expected between 0 and 0.9"),
        (["head=sharded"], "loss=smoothed_softmax cannot be computed with head=sharded: give --set head=dense"),
        (["network=plainet"], "unknown network 'plainet': did you mean 'plainnet'"),
    ],
)
def test_errors_name_what_the_package_adds(capsys, face_folder, settings, message):
    assert message in refused(capsys, "train", "plain_student", "--data", face_folder, "--set", *settings)


def test_a_recipe_is_read_from_a_file(tmp_path, face_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_recipe.py").write_text(
        '"""Mine."""\n'
        "import mxnet as mx\n"
        "from vargfacenet.symbols import register_network\n\n"
        "@register_network\n"
        "def flat(*, embedding_size: int = 8, factor: float = 1.0):\n"
        "    x = mx.sym.Pooling(mx.sym.var('data') * factor, kernel=(16, 16), stride=(16, 16), pool_type='avg')\n"
        "    return mx.sym.FullyConnected(x, num_hidden=embedding_size, name='fc1')\n\n"
        "recipe = dict(network='flat', factor=0.01, batch_size=8, max_updates=2, log_every=1, lr=0.01)\n"
    )
    try:
        assert main(["train", "./my_recipe.py", "--data", str(face_folder), "--set", "factor=0.02"]) == 0
    finally:
        NETWORKS._entries.pop("flat", None)
    config = json.loads((tmp_path / "runs" / "my_recipe" / "config.json").read_text())
    assert config["network_options"] == {"factor": 0.02}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no recipe file .*mine.py"),
        ("x = 1\n", "recipe mine: expected a module with a mapping called recipe"),
        ("recipe = dict(lr=)\n", "mine.py cannot be run: SyntaxError"),
        (
            "import nothing_of_that_name\n",
            "mine.py cannot be run: ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        ("recipe = dict(lrr=1)\n", "unknown setting 'lrr': did you mean 'lr'"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_named(tmp_path, text, message):
    from vargfacenet.train import resolve

    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(SettingError, match=message):
        resolve(str(tmp_path / "mine.py"))


def test_a_network_of_another_form_is_refused(added):
    with pytest.raises(SettingError, match="network wide: data is positional; expected keyword-only options"):

        @register_network("wide")
        def wide(data, *, embedding_size: int = 8):
            pass

    with pytest.raises(SettingError, match="network small: expected an option embedding_size"):

        @register_network("small")
        def small(*, width: float = 1.0):
            pass

    with pytest.raises(SettingError, match="the network 'vargfacenet' of .* has the name of one of vargfacenet"):

        @register_network("vargfacenet")
        def other(*, embedding_size: int = 8):
            pass

    with pytest.raises(SettingError, match="'two words' cannot be the name of a network"):

        @register_network("two words")
        def words(*, embedding_size: int = 8):
            pass


def test_a_loss_of_another_form_is_refused(added):
    with pytest.raises(SettingError, match=r"loss odd takes \(label, embedding\): expected \(embedding, label\)"):

        @register_loss("odd")
        def odd(label, embedding, *, num_identities: int):
            pass

    with pytest.raises(SettingError, match="'none' cannot be the name of a loss"):

        @register_loss("none")
        def nothing(embedding, label):
            pass

    with pytest.raises(SettingError, match=r"distillation loss far takes \(teacher\): expected \(student, teacher\)"):

        @register_distillation("far")
        def far(teacher):
            pass

    with pytest.raises(SettingError, match=r"callback idle takes \(\): expected \(context\)"):

        @register_callback("idle")
        def idle(*, every: int = 1):
            pass


def test_a_loss_may_read_the_teacher_and_a_distillation_the_labels(added, face_folder, teacher, tmp_path):
    seen = {}

    @register_loss("pulled")
    def pulled(embedding, label, teacher, *, num_identities: int, weight: float = 0.5):
        logits = mx.sym.FullyConnected(embedding, num_hidden=num_identities, name="fc7")
        loss = -mx.sym.pick(mx.sym.log_softmax(logits), label) + weight * mx.sym.mean(
            mx.sym.square(embedding - teacher), axis=1
        )
        correct = mx.sym.broadcast_equal(mx.sym.argmax(logits, axis=1), label)
        return mx.sym.Group([loss, mx.sym.BlockGrad(correct)])

    @register_distillation("weighed")
    def weighed(student, teacher, label, *, embedding_size: int, num_identities: int):
        seen.update(embedding_size=embedding_size, num_identities=num_identities)
        return (1 + label) * mx.sym.mean(mx.sym.square(student - teacher), axis=1)

    config = tiny(loss="pulled", weight=0.25, embedding_size=16)
    assert config.distils
    with pytest.raises(SettingError, match="needs a teacher"):
        train(config, data=face_folder, out=tmp_path / "alone")
    result = train(config, data=face_folder, out=tmp_path / "pulled", teacher=teacher)
    assert read_config(result.out / "config.json").loss_options == {"weight": 0.25}
    config = tiny(loss="none", distillation="weighed", embedding_size=16)
    assert config.reads_labels
    train(config, data=face_folder, out=tmp_path / "weighed", teacher=teacher)
    assert seen == {"embedding_size": 16, "num_identities": 4}


def test_a_registered_augmentation_draws_from_the_samples_generator(added):
    @register_augmentation
    def noise(image, random, *, most: int = 9):
        return np.clip(image + random.integers(0, most + 1, image.shape), 0, 255).astype(np.uint8)

    image = np.full((112, 112, 3), 100, np.uint8)
    augmentation = Augmentation(mirror=False, registered=(("noise", {"most": 3}),))
    first, mirrored = augmentation(image, np.random.default_rng(1))
    again, _ = augmentation(image, np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert (first.min(), first.max(), mirrored) == (100, 103, False)
    assert image.max() == 100


def of_this_module(image, random, *, how: Annotated[str, About("How.", choices=lambda: ["dark", "bright"])] = "dark"):
    return image // 2 if how == "dark" else 255 - image // 2


def test_a_registered_augmentation_can_be_given_to_another_process(added):
    register_augmentation(of_this_module)
    augmentation = Augmentation(mirror=False, registered=(("of_this_module", {"how": "bright"}),))
    copied = pickle.loads(pickle.dumps(augmentation))
    assert copied == augmentation
    image, _ = copied(np.full((112, 112, 3), 100, np.uint8), np.random.default_rng(0))
    assert set(image.ravel()) == {205}


def test_an_augmentation_that_returns_something_else_is_named(added):
    @register_augmentation
    def halve(image, random):
        return image / 2

    with pytest.raises(SettingError, match=r"augmentation halve returned float64 \(112, 112, 3\): expected uint8"):
        Augmentation(registered=(("halve", {}),))(np.zeros((112, 112, 3), np.uint8), np.random.default_rng(0))
