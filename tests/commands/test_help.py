"""``--help`` of every command and action: its examples are valid command lines, and old spellings stay hidden but work."""

import argparse
import contextlib
import json
import re
import shlex

import pytest

from vargfacenet.commands import COMMANDS, command_line, main, parse
from vargfacenet.symbols import list_networks
from vargfacenet.train.recipes import list_recipes


def actions_of(parser):
    """The sub-parsers of a parser by name."""
    found = [one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return found[0] if found else {}


def parsers():
    for command in COMMANDS:
        parser = actions_of(command_line(command))[command]
        yield command, parser
        for action, inner in actions_of(parser).items():
            yield f"{command} {action}", inner


PARSERS = dict(parsers())


def examples(parser):
    lines = (parser.epilog or "").splitlines()
    assert lines[:1] == ["examples:"]
    return [line.strip() for line in lines[1:]]


@pytest.mark.parametrize("name", PARSERS)
def test_examples_are_commands_that_parse(name):
    found = examples(PARSERS[name])
    assert 1 <= len(found) <= 4
    for example in found:
        program, *arguments = shlex.split(example)
        assert program == "vargfacenet"
        assert " ".join(arguments).startswith(name)
        args = parse(arguments)
        assert callable(args.run)
        assert getattr(args, "recipe", None) in (None, *list_recipes())
        assert getattr(args, "network", None) in (None, *list_networks())


@pytest.mark.parametrize("name", PARSERS)
def test_help_describes_each_argument(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert PARSERS[name].description.strip()
    for action in PARSERS[name]._actions:
        if action.help == argparse.SUPPRESS:
            assert all(not re.search(rf"(?<![\w-]){option}(?![\w-])", text) for option in action.option_strings)
        elif not isinstance(action, argparse._SubParsersAction):
            assert action.help, f"{action.dest} has no help"


def test_the_list_of_commands_is_grouped_and_whole(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE)
    for group in ("training:", "evaluation:", "deployment:"):
        assert f"\n{group}\n" in text


def test_an_option_has_one_form_in_all_commands():
    """Options of the same name take the same number of values of the same type, and repeat their default."""
    forms = {}
    for name, parser in PARSERS.items():
        for action in parser._actions:
            if action.help == argparse.SUPPRESS:
                continue
            for option in action.option_strings:
                kind = (type(action).__name__, action.type, isinstance(action.nargs, str) and action.nargs in "+*")
                forms.setdefault(option, {}).setdefault(kind, []).append(name)
    several = {option: kinds for option, kinds in forms.items() if len(kinds) > 1}
    # The benchmark measures several sizes of the classifier, and decodes one training set.
    assert set(several) <= {"--identities", "--data"}


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (["ijb", "m", "f", "--set", "ijbb"], ["ijb", "m", "f", "--dataset", "ijbb"], "--dataset"),
        (["ijb", "m", "f", "--unit"], ["ijb", "m", "f", "--l2-normalize"], "--l2-normalize"),
        (["verify", "m", "--bins", "b", "--devices", "gpu:0"], ["verify", "m", "--bins", "b", "--device", "gpu:0"], ""),
        (
            ["challenge", "features", "m", "l", "o", "--root", "x"],
            ["challenge", "features", "m", "l", "o", "--folder", "x"],
            "--folder",
        ),
        (
            ["data", "align", "i", "d", "--threshold", "0.6"],
            ["data", "align", "i", "d", "--detector-threshold", "0.6"],
            "--detector-threshold",
        ),
        (
            ["data", "synth", "d", "--images", "3"],
            ["data", "synth", "d", "--images-per-identity", "3"],
            "--images-per-identity",
        ),
        (
            ["export", "m", "o.onnx", "--calibration-pictures", "64"],
            ["export", "m", "o.onnx", "--calibration-images", "64"],
            "--calibration-images",
        ),
    ],
)
def test_an_old_spelling_works_and_names_the_new_one(old, new, name, caplog):
    assert vars(parse(old)) == vars(parse(new))
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(
        rf"--[\w-]+ is deprecated and will be removed in the next version: give {name or '--device'}", line
    )


def test_an_epoch_given_as_an_option_is_that_of_the_model(caplog):
    args = parse(["verify", "m", "--bins", "b", "--epoch", "7"])
    assert (args.models, args.epoch) == (["m"], 7)
    assert "give MODEL,EPOCH" in caplog.text


def test_json_without_a_file_is_deprecated_and_goes_to_standard_output(capsys, caplog, tmp_path):
    assert main(["summary", "mobilefacenet", "--json"]) == 0
    bare = capsys.readouterr()
    assert "give --json -" in caplog.text
    assert main(["summary", "mobilefacenet", "--json", "-"]) == 0
    assert capsys.readouterr().out == bare.out
    file = tmp_path / "summary.json"
    assert main(["summary", "mobilefacenet", "--json", str(file)]) == 0
    assert "float32 size" in capsys.readouterr().out
    assert json.loads(file.read_text()) == json.loads(bare.out)
    assert "float32 size" in bare.err


def test_a_checkpoint_is_expected_where_an_onnx_file_cannot_be_used(capsys):
    for command in (["export", "x.onnx", "y.onnx"], ["convert", "x.onnx", "y"]):
        with contextlib.suppress(SystemExit):
            assert main(command) == 2
        assert "x.onnx is an ONNX file: expected a checkpoint, PREFIX or PREFIX,EPOCH" in capsys.readouterr().err


def test_no_arguments_give_the_list_of_commands(capsys):
    assert main([]) == 2
    printed = capsys.readouterr().err
    assert all(f"\n  {name} " in printed for name in COMMANDS)
