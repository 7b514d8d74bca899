"""The command line: what it prints, its exit status, and one line for every mistake."""

import json
import os
import pathlib
import pickle
import re

import mxnet as mx
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import image
from vargfacenet.commands import main
from vargfacenet.commands.train import _folder
from vargfacenet.environment import explain_import_failure
from vargfacenet.eval import write_pairs
from vargfacenet.formats.checkpoint import save_checkpoint
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.symbols import get_symbol
from vargfacenet.train.run_folder import Resume

TINY = ["multiplier=0.25", "units=1,1,1", "use_se=false", "embedding_size=16", "batch_size=8", "max_updates=2"]
TINY += ["warmup_updates=1", "verify_every=2", "save_every=2", "log_every=1"]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    symbol = get_symbol("vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=8)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 3, 112, 112))], for_training=False)
    module.init_params(mx.init.Xavier())
    prefix = tmp_path_factory.mktemp("checkpoint") / "model"
    save_checkpoint(prefix, 0, symbol, *module.get_params())
    return str(prefix)


@pytest.fixture
def bin_file(tmp_path, pairs_set):
    write_pairs(tmp_path / "stripes.bin", *pairs_set)
    return str(tmp_path / "stripes.bin")


def test_summary_counts_the_published_figures(capsys):
    assert main(["summary", "vargfacenet"]) == 0
    out = capsys.readouterr().out
    assert "parameters     5,198,292\n" in out
    assert "FLOPs          1,022,864,152\n" in out


def test_summary_as_json_takes_options(capsys):
    assert main(["summary", "vargfacenet", "--set", "use_se=false", "--json", "-"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["parameters"], summary["flops"]) == (4_957_512, 1_022_388_952)
    assert sum(layer["parameters"] for layer in summary["layers"]) == summary["parameters"]


def test_train_leaves_a_checkpoint_that_verify_takes(capsys, face_folder, bin_file, tmp_path):
    out = tmp_path / "run"
    arguments = [
        "train",
        "demo_student_scratch",
        "--data",
        face_folder,
        "--out",
        out,
        "--bins",
        bin_file,
        "--set",
        *TINY,
    ]
    assert main(list(map(str, arguments))) == 0
    printed = capsys.readouterr().out
    assert "untrained" in printed
    assert "after 2 updates (best)" in printed
    assert main(["verify", str(out / "best"), "--bins", bin_file]) == 0


def test_train_lists_its_recipes(capsys):
    assert main(["train", "--list"]) == 0
    assert "demo_student_scratch" in capsys.readouterr().out


def test_runs_are_numbered_and_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(_folder("demo", None)) == "runs/demo"
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    assert str(_folder("demo", None)) == "runs/demo-2"
    assert str(_folder("demo", Resume())) == "runs/demo"
    (tmp_path / "runs" / "demo-7").mkdir()
    assert str(_folder("demo", None)) == "runs/demo-8"
    assert str(_folder("demo", Resume())) == "runs/demo-7"


def test_pack_and_check(capsys, tmp_path):
    for identity in range(2):
        (tmp_path / "images" / str(identity)).mkdir(parents=True)
        (tmp_path / "images" / str(identity) / "a.jpg").write_bytes(encode_jpeg(image(identity, 0)))
    assert main(["data", "pack", str(tmp_path / "images"), str(tmp_path / "set")]) == 0
    assert main(["data", "check", str(tmp_path / "set")]) == 0
    out = capsys.readouterr().out
    assert "2 images of 2 identities" in out
    assert "bad records: 0" in out


def test_check_of_a_bad_set_exits_with_one(capsys, tmp_path, pairs_set):
    images, is_same = pairs_set
    write_pairs(tmp_path / "set.bin", [b"hello", *images[1:]], is_same)
    assert main(["data", "check", str(tmp_path / "set.bin")]) == 1
    assert "image 0: image: 5 bytes that are not an image" in capsys.readouterr().out


def test_pairs_makes_a_set_that_check_takes(capsys, tmp_path):
    (tmp_path / "people" / "Bo").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / "people" / "Bo" / f"Bo_{number:04d}.jpg").write_bytes(encode_jpeg(image(0, number)))
    (tmp_path / "pairs.txt").write_text("Bo 1 2\n")
    assert main(["data", "pairs", *(str(tmp_path / name) for name in ("people", "pairs.txt", "out.bin"))]) == 0
    assert main(["data", "check", str(tmp_path / "out.bin")]) == 0


def test_synth_draws_a_set_with_unseen_pairs_and_a_contact_sheet(capsys, tmp_path):
    sheet = tmp_path / "sheet.png"
    arguments = [
        "data",
        "synth",
        str(tmp_path / "set"),
        "--identities",
        "3",
        "--images",
        "2",
        "--contact-sheet",
        str(sheet),
    ]
    assert main(arguments) == 0
    assert main(["data", "check", str(tmp_path / "set")]) == 0
    assert main(["data", "check", str(tmp_path / "set" / "synth.bin")]) == 0
    assert "600 pairs, 300 of one identity" in capsys.readouterr().out
    assert sheet.read_bytes()[:4] == b"\x89PNG"


def test_doctor_finds_this_machine_well(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "mxnet        1.9.1" in out
    assert "CPU threads" in out
    assert "all is well" in out


def test_doctor_names_what_is_wrong(capsys, monkeypatch):
    monkeypatch.setenv("MXNET_ENGINE_TYPE", "NaiveEngine")
    monkeypatch.setattr("vargfacenet.environment.NEWEST_PYTHON", (3, 8))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "is not supported: make the environment with Python 3.9 to 3.8" in out
    assert "PROBLEM      MXNET_ENGINE_TYPE" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "vargfacent"], "did you mean 'vargfacenet'"),
        (["summary", "vargfacenet", "--set", "use_sea=1"], "did you mean 'use_se'"),
        (["summary", "vargfacenet", "--set", "use_se"], "expected NAME=VALUE"),
        (["summary", "vargfacenet", "--set", "use_se=1", "use_se=0"], "given twice"),
        (["train", "student_scratch"], "needs --data DIR"),
        (["train"], "no recipe given"),
        (["train", "demo_students", "--data", "x"], "did you mean 'demo_student'"),
        (["train", "student_scratch", "--data", "nowhere"], "no record file nowhere"),
        (["train", "student_scratch", "--data", "nowhere", "--set", "bath_size=3"], "did you mean 'batch_size'"),
        (["train", "student_scratch", "--data", "nowhere", "--device", "gpu:77"], "MXNet sees"),
        (["train", "student_scratch", "--data", "nowhere", "--bins", "no.bin"], "cannot read no.bin"),
        (["verify", "nothing", "--epoch", "3", "--bins", "no.bin"], "cannot read no.bin"),
        (["verify", "nothing", "--epoch", "-3", "--bins", "no.bin"], "--epoch=-3: expected between 0 and 9999"),
        (["data", "check", "nowhere"], "no record file nowhere"),
        (["data", "check", "nowhere.bin"], "cannot read nowhere.bin"),
        (["data", "pack", "nowhere", "out"], "no folder of images nowhere"),
        (["data", "pairs", "nowhere", "pairs.txt", "out.bin"], "no folder of images nowhere"),
        (["data", "synth", "out", "--identities", "0"], "--identities=0: expected"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments", [["fly"], ["verify"], ["data"], ["train", "--epochs", "3"], ["verify", "x", "--epoch", "y"]]
)
def test_a_command_that_does_not_exist_is_one_line_and_status_two(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "error:" in err
    assert "--help" in err


def test_a_pickle_with_code_is_one_line_and_does_not_run(capsys, prefix, tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / "harm.bin").write_bytes(pickle.dumps(Harmful()))
    for command in (["verify", prefix, "--bins"], ["data", "check"]):
        assert "nothing was run" in refused(capsys, *command, tmp_path / "harm.bin")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_without_a_parameter_is_one_line(capsys, prefix, bin_file, tmp_path):
    saved = mx.nd.load(f"{prefix}-0000.params")
    saved.pop("arg:pre_fc1_weight")
    mx.nd.save(str(tmp_path / "less-0000.params"), saved)
    (tmp_path / "less-symbol.json").write_text(pathlib.Path(f"{prefix}-symbol.json").read_text())
    assert "lacks 1 parameter(s) of its graph: pre_fc1_weight" in refused(
        capsys, "verify", tmp_path / "less", "--bins", bin_file
    )


def test_a_cut_record_file_is_one_line(capsys, face_folder, tmp_path):
    for name in ("train.rec", "train.idx", "property"):
        content = (face_folder / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2] if name == "train.rec" else content)
    message = refused(capsys, "train", "demo_student_scratch", "--data", tmp_path, "--out", tmp_path / "run")
    assert "train.rec is cut" in message
    assert not (tmp_path / "run").exists()
    assert main(["data", "check", str(tmp_path)]) == 1


def test_an_unforeseen_error_is_one_line_and_debug_shows_where(capsys, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("boom\nboom")

    monkeypatch.setattr("vargfacenet.commands.summary.get_symbol", fail)
    assert "unexpected RuntimeError: boom (--debug shows where)" in refused(capsys, "summary", "vargfacenet")
    assert main(["summary", "vargfacenet", "--debug"]) == 2
    assert "Traceback" in caplog.text


def test_help_of_every_command_says_what_it_does(capsys):
    for command in ("summary", "data", "train", "verify", "doctor"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert len(capsys.readouterr().out) > 200


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError("libgomp.so.1: cannot open shared object file"),
            "the system lacks libgomp.so.1: .*apt-get install libgomp1",
        ),
        (ImportError("libGL.so.1: cannot open shared object file"), "libGL.so.1 is missing"),
        (ModuleNotFoundError("no", name="mxnet"), "package 'mxnet' is missing"),
        (AttributeError("module 'numpy' has no attribute 'bool'"), "import vargfacenet before mxnet"),
    ],
)
def test_a_failed_import_is_explained(error, message):
    assert re.search(message, explain_import_failure(error))
    assert explain_import_failure(ValueError("other")) is None
