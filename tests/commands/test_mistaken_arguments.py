"""Commands name what was likely meant: a command, a setting, a file of a checkpoint, the order of arguments."""

import pathlib
import shutil

import pytest

from tests.helpers.images import image
from tests.helpers.networks import save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.commands.model_arguments import parse_model
from vargfacenet.errors import SettingError
from vargfacenet.formats.images import encode_png


def said(capsys, *arguments):
    """The one line that a refused request leaves on standard error."""
    try:
        status = main(list(map(str, arguments)))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    return err


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    prefix = save_random_checkpoint(tmp_path_factory.mktemp("model") / "model", "mobilefacenet")
    shutil.copy(f"{prefix}-0000.params", f"{prefix}-0012.params")
    return str(prefix)


def test_an_unknown_command_or_action_has_its_nearest(capsys):
    assert "unknown command 'verfy': did you mean 'verify'? there are models, summary, " in said(capsys, "verfy")
    assert "unknown command 'xyzzy': there are models" in said(capsys, "xyzzy")
    assert "unknown action 'pck': did you mean 'pack'? there are synth" in said(capsys, "data", "pck")


def test_a_setting_given_as_an_option_of_train_is_named(capsys):
    line = said(capsys, "train", "demo_student", "--batch-size", "64")
    assert "--batch-size is a setting: give --set batch_size=64 (see vargfacenet train --help)" in line
    assert "give --set batch_size=64 (see" in said(capsys, "train", "--batch-size", "64")
    assert "give --set lr=0.1 " in said(capsys, "train", "demo_student", "--lr=0.1")
    assert "unrecognized arguments: --points list (see vargfacenet data align --help)" in said(
        capsys, "data", "align", "photographs", "out", "--points", "list"
    )
    assert "unrecognized arguments: --foo (see vargfacenet train --help)" in said(
        capsys, "train", "demo_student", "--foo"
    )


def test_a_file_of_a_checkpoint_stands_for_it(model, tmp_path):
    assert parse_model(f"{model}-symbol.json", 3) == (model, 3)
    assert parse_model(f"{model}-0012.params", 0) == (model, 12)
    assert main(["convert", f"{model}-0012.params", str(tmp_path / "out")]) == 0


def test_a_missing_epoch_names_those_that_exist(capsys, model, tmp_path):
    assert "there are epochs 0, 12" in said(capsys, "convert", model, tmp_path / "out", "--epoch", "5")


@pytest.mark.parametrize("text", ["a.jpg", "a.PNG", "lfw.bin", "train.rec"])
def test_swapped_arguments_are_told(text):
    with pytest.raises(SettingError, match="and not a model: the arguments look swapped"):
        parse_model(text, 0)


def test_a_set_in_the_place_of_a_model_is_told_before_anything_is_read(capsys, pairs_file, model):
    assert "the arguments look swapped" in said(capsys, "verify", pairs_file, "--bins", model)
    assert "the arguments look swapped" in said(capsys, "compare", "a.png", "b.png", model)


def test_an_image_that_is_not_aligned_names_the_option(capsys, model, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode_png(image(0, 0).repeat(2, axis=0).repeat(2, axis=1)))
    line = said(capsys, "compare", model, tmp_path / "a.png", tmp_path / "b.png")
    assert "224x224 pixels, expected an aligned face of 112x112: align it first (--align, or" in line


def test_an_export_under_the_name_of_another_format_is_refused(capsys, model, tmp_path):
    assert ".tflite is not written: name it " in said(capsys, "export", model, tmp_path / "out.tflite")


def test_data_of_another_kind_say_where_they_belong(capsys, model, tmp_path, face_folder, pairs_file):
    train = ["train", "student_scratch", "--data"]
    assert "is a verification set: pass it to --bins" in said(capsys, *train, pairs_file)
    (tmp_path / "faces" / "ada").mkdir(parents=True)
    assert "train.rec: 'vargfacenet data pack" in said(capsys, *train, tmp_path / "faces")
    assert "belongs to a training set: pass it to --data" in said(
        capsys, "verify", model, "--bins", face_folder / "train.rec"
    )


def test_ctrl_c_ends_the_demo_quietly(monkeypatch, capsys, model):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vargfacenet.commands.server_arguments.load_face_model", interrupted)
    assert main(["demo", model]) == 0
    assert capsys.readouterr().err == ""


def test_a_misspelt_bundled_network_gets_a_suggestion(capsys, tmp_path):
    error = said(capsys, "convert", "vargfacenet-x05", tmp_path / "out")
    assert "no checkpoint file vargfacenet-x05-symbol.json" in error
    assert "did you mean vargfacenet-x050, which comes with the package?" in error
    assert "did you mean" not in said(capsys, "convert", "somewhere/else", tmp_path / "out")


def test_summary_without_a_network_says_that_json_took_it(capsys):
    assert "no network given; --json has taken resnet18 for its file" in said(capsys, "summary", "--json", "resnet18")
    assert "no network given: it comes first" in said(capsys, "summary")


def test_verify_without_sets_tells_swapped_arguments(capsys, model):
    assert "lfw.bin is a data set and not a model: the arguments look swapped" in said(
        capsys, "verify", "lfw.bin", model
    )
    assert "no verification sets: give --bins SET" in said(capsys, "verify", model)


@pytest.mark.parametrize(
    ("arguments", "work"),
    [
        (["zoo", "edgeface", "--measure", "--plot", "/proc/none/x.png"], "zoo.zoo"),
        (["zoo", "edgeface", "--measure", "--markdown", "/proc/none/x.md"], "zoo.zoo"),
        (["zoo", "edgeface", "--measure", "--json", "/proc/none/x.json"], "zoo.zoo"),
        (["prune", "vargfacenet-x050", "/proc/none/x", "--data", "f"], "prune.load_checkpoint"),
        (["bench", "infer", "--plot", "/proc/none/x.png"], "bench.take_turns"),
        (["challenge", "features", "vargfacenet-x050", "list", "/proc/none/x"], "challenge.open_named"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(capsys, monkeypatch, arguments, work):
    monkeypatch.setattr(f"vargfacenet.commands.{work}", lambda *_, **__: pytest.fail("work was begun"))
    assert "cannot write /proc/none/x" in said(capsys, *arguments)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt"])
def test_weights_of_pytorch_are_to_be_converted(capsys, name):
    assert f"'vargfacenet convert {name} OUT --as NETWORK' makes a checkpoint" in said(capsys, "export", name, "a.onnx")


def test_a_folder_in_place_of_a_model_names_its_checkpoints(capsys, model, tmp_path):
    folder = pathlib.Path(model).parent
    assert f"{folder} is a folder, with {model}" in said(capsys, "convert", folder, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "is a folder, with no checkpoint in it" in said(capsys, "convert", tmp_path / "empty", tmp_path / "out")


def test_addresses_and_lists_with_commas_get_a_remedy(capsys):
    assert "addresses are not fetched: download it" in said(capsys, "compare", "https://example.org/a.jpg", "b.jpg")
    assert "separated by blanks, not commas" in said(capsys, "verify", "vargfacenet-x050", "--bins", "a.bin,b.bin")
    assert "several settings are separated by blanks, not commas" in said(
        capsys, "train", "demo_student", "--set", "batch_size=8,lr=0.1"
    )
