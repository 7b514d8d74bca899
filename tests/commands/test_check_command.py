"""``vargfacenet data check`` says what a set holds and what is wrong with it, in words and by its exit status."""

import shutil

import pytest

from tests.helpers.pickles import HOSTILE
from tests.helpers.record_sets import offsets, overwrite
from vargfacenet.commands import main


@pytest.fixture
def folder(face_folder, tmp_path):
    return shutil.copytree(face_folder, tmp_path / "set")


def test_a_whole_set_has_its_checksums_named(folder, capsys):
    assert main(["data", "check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "identity index record: yes; checksums: yes" in said
    assert "bad records: 0" in said


def test_each_bad_record_comes_with_its_number_and_reason(folder, capsys):
    overwrite(folder, offsets(folder)[5] + 100, b"damage")
    assert main(["data", "check", str(folder)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("record 5: at byte ")
    assert said[-2].endswith("is damaged: its bytes differ from those that were written")
    assert said[-1] == "bad records: 1"


def test_a_set_that_cannot_be_opened_is_one_line_and_status_2(folder, capsys):
    (folder / "train.idx").write_bytes(b"\xff\xfe" * 100)
    assert main(["data", "check", str(folder)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "train.idx is not an index" in said[0]


def test_a_hostile_verification_set_is_one_line_and_status_2(tmp_path, capsys, teacher_prefix):
    path = tmp_path / "set.bin"
    path.write_bytes(HOSTILE["os.system"])
    for command in (["data", "check", str(path)], ["verify", str(teacher_prefix), "--bins", str(path)]):
        assert main(command) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert "its pickle asks for os.system, which no verification set needs; nothing was run" in said[0]
