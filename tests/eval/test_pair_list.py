"""Lists of pairs: accepted formats, and errors that name the line."""

import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.eval.pair_list import pairs_from_folder
from vargfacenet.eval.pairs import check_pairs
from vargfacenet.formats.images import decode_image, encode_png


def face(value):
    return encode_png(np.full((112, 112, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path):
    for name, count in (("Ada_Lovelace", 3), ("Bo", 2)):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (tmp_path / "faces" / name / f"{name}_{number:04d}.png").write_bytes(face(40 * number))
    return tmp_path / "faces"


def test_lfw_pairs_file_becomes_a_set(folder, tmp_path):
    lines = tmp_path / "pairs.txt"
    lines.write_text("1\t2\nAda_Lovelace\t1\t3\nBo\t1\t2\nAda_Lovelace\t2\tBo\t1\n\nBo\t2\tAda_Lovelace\t3\n")
    pairs = pairs_from_folder(folder, lines)
    assert pairs.is_same.tolist() == [True, True, False, False]
    assert len(pairs.images) == 8
    assert check_pairs(pairs) == []


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";"])
@pytest.mark.parametrize("header", ["", "path1,path2,label\n", "first second is_same\n"])
def test_a_list_of_two_paths_and_a_label_becomes_a_set(folder, tmp_path, separator, header):
    names = ["Ada_Lovelace/Ada_Lovelace_0001.png", "Bo/Bo_0002.png", "Bo/Bo_0001.png"]
    rows = [(names[0], names[1], "0"), (names[1], names[2], "1"), (names[2], names[0], "0")]
    (tmp_path / "pairs.txt").write_text(header + "".join(separator.join(row) + "\n" for row in rows))
    pairs = pairs_from_folder(folder, tmp_path / "pairs.txt")
    assert pairs.is_same.tolist() == [False, True, False]
    levels = [int(decode_image(image, "face").mean().round()) for image in pairs.images]
    assert levels == [40, 80, 80, 40, 40, 40]


def test_backslashes_separate_folders_in_lists_of_windows(folder, tmp_path):
    (tmp_path / "pairs.txt").write_bytes(b"\xef\xbb\xbfBo\\Bo_0001.png;Bo\\Bo_0002.png;1\r\n")
    assert pairs_from_folder(folder, tmp_path / "pairs.txt").is_same.tolist() == [True]


def test_a_path_may_hold_blanks_where_tabs_or_commas_separate(folder, tmp_path):
    (folder / "Bo" / "Bo_0001.png").rename(folder / "Bo" / "by the sea.png")
    (tmp_path / "pairs.txt").write_text("Bo/by the sea.png\tBo/Bo_0002.png\t1\nBo/Bo_0002.png, Bo/by the sea.png, 0\n")
    assert pairs_from_folder(folder, tmp_path / "pairs.txt").is_same.tolist() == [True, False]


def test_an_image_in_several_pairs_is_read_once(folder, tmp_path, monkeypatch):
    (tmp_path / "pairs.txt").write_text("Bo 1 2\nBo 1 Ada_Lovelace 1\nBo 2 1\n")
    reads = []
    monkeypatch.setattr(
        "vargfacenet.eval.pair_list.as_face_jpeg", lambda encoded, where, **_: reads.append(where) or encoded
    )
    assert len(pairs_from_folder(folder, tmp_path / "pairs.txt").images) == 6
    assert len(reads) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "10 300\nBo 1 2 3 4\n",
            "line 2 reads 'Bo 1 2 3 4', expected PATH1 PATH2 0 or 1, NAME i j, or NAME1 i NAME2 j",
        ),
        ("Bo 1\n", "line 1 reads 'Bo 1'"),
        ("Bo 1 3\n", "line 1: no image .*Bo_0003.jpg"),
        ("Bo 1 \u00b2\n", "line 1: image '\u00b2' of Bo"),
        ("Bo 1 x\n", "line 1: image 'x' of Bo"),
        ("10 300\n", "lists no pair"),
        ("1 2\nBo 1 2\nBo 1 2\n", "announces 4 pairs and lists 2: it may be cut"),
        (
            "Bo/Bo_0001.png Bo/Bo_0002.png 1\nBo/Bo_0001.png Bo/Bo_0002.png 2\n",
            "line 2 reads .* expected PATH1 PATH2 0 or 1",
        ),
        ("Bo/Bo_0001.png Bo/Bo_0002.png yes\n", "line 1 reads"),
        ("Bo/Bo_0001.png Bo/gone.png 1\n", "line 1: no image .*gone.png"),
        ("Bo/Bo_0001.png ../faces/Bo/Bo_0001.png 1\n", "line 1: ../faces/Bo/Bo_0001.png leads out of the folder"),
        ("a b same\na b label\n", "line 2 reads 'a b label'"),
    ],
)
def test_a_wrong_pairs_file_is_reported_by_line(folder, tmp_path, text, message):
    lines = tmp_path / "pairs.txt"
    lines.write_text(text)
    with pytest.raises(DataError, match=message):
        pairs_from_folder(folder, lines)


def test_a_file_that_is_not_an_image_is_refused(folder, tmp_path):
    (folder / "Bo" / "Bo_0001.png").write_bytes(b"hello")
    lines = tmp_path / "pairs.txt"
    lines.write_text("Bo 1 2\n")
    with pytest.raises(DataError, match="Bo_0001.png: 5 bytes that are not an image"):
        pairs_from_folder(folder, lines)
