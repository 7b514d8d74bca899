"""Files are read up to a limit, lists line by line, and JSON within bounds."""

import os
import threading

import pytest

from vargfacenet.errors import DataError
from vargfacenet.formats.files import files_below, parse_json, read_bytes, read_json, read_lines, write_text


def test_a_file_larger_than_its_limit_is_not_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_bytes(path, limit=100) == b"x" * 100
    with pytest.raises(DataError, match="file is larger than 99 bytes"):
        read_bytes(path, limit=99)
    with open(path, "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="larger than 1000 bytes"):
        read_bytes(path, limit=1000)


def test_a_device_without_end_is_read_up_to_the_limit():
    with pytest.raises(DataError, match="/dev/zero is larger than 100000 bytes"):
        read_bytes("/dev/zero", limit=100_000)


def test_a_pipe_is_read_whole(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"x" * 300_000,))
    writer.start()
    assert len(read_bytes(tmp_path / "pipe", limit=1 << 20)) == 300_000
    writer.join()


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_name_that_no_file_can_have_is_an_error_of_ours(name):
    with pytest.raises(DataError, match="cannot read"):
        read_bytes(name)


def test_lines_come_with_their_numbers(tmp_path):
    (tmp_path / "list").write_bytes("\ufeffanna 1\r\nb\u00e9a 2\n\nlast".encode())
    assert list(read_lines(tmp_path / "list")) == [(1, "anna 1"), (2, "b\u00e9a 2"), (3, ""), (4, "last")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\xff\xfe", "not UTF-8 text"),
        (b"a\0b", "contains a zero byte"),
        (b"x" * 5000, "has 5000 bytes, expected at most"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, line, message):
    (tmp_path / "list").write_bytes(b"good\n" + line + b"\n")
    with pytest.raises(DataError, match=f"line 2 .*{message}"):
        list(read_lines(tmp_path / "list"))


def test_json_reads(tmp_path):
    (tmp_path / "x.json").write_text('{"a": [1, -2.5, "\u00e9", null]}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"a": [1, -2.5, "\u00e9", None]}


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"9" * 200_000, b'"\xff"', b"\0"])
def test_json_too_deep_too_long_or_none_is_refused(content):
    with pytest.raises(DataError, match="^x.json is not JSON, or is damaged"):
        parse_json(content, "x.json")


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path, caplog):
    (tmp_path / "real" / "alice").mkdir(parents=True)
    (tmp_path / "real" / "alice" / "1.jpg").write_text("a")
    (tmp_path / "set" / "carol").mkdir(parents=True)
    (tmp_path / "set" / "carol" / "1.jpg").write_text("c")
    (tmp_path / "set" / "alice").symlink_to(tmp_path / "real" / "alice")
    (tmp_path / "set" / "bob").symlink_to(tmp_path / "real" / "alice")  # two names for one folder are two
    (tmp_path / "set" / "carol" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "real" / "alice" / "self").symlink_to(tmp_path / "real" / "alice")
    (tmp_path / "set" / "gone").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(tmp_path / "set").as_posix() for path in files_below(tmp_path / "set")]
    assert found == ["alice/1.jpg", "bob/1.jpg", "carol/1.jpg"]
    assert "gone: its link has no target" in caplog.text


def test_text_with_names_of_any_bytes_is_written(tmp_path):
    write_text(tmp_path / "list.txt", f"{os.fsdecode(bytes([0xD5, 0xC5]))}\t张\n")
    assert (tmp_path / "list.txt").read_bytes() == b"\xd5\xc5\t" + "张\n".encode()
