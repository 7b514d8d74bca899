"""Verification sets: whatever Python wrote, and nothing else."""

import os
import pickle
import subprocess

import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.eval import read_pairs, read_sets, write_pairs
from vargfacenet.eval.pairs import check_pairs, pairs_from_folder
from vargfacenet.formats.images import decode_image, encode_png

IMAGES = [bytes([value, 0xFF, 0xD8, 0, 10, 255]) for value in range(4)]
TRUTH = [True, False]

# What Python 2.7 writes for ([four strings], [True, False]) and for arrays of numpy 1, by its protocols 0 and 2.
PYTHON2_PROTOCOL_0 = (
    b"((lp0\nS'\\x00\\xff\\xd8\\x00\\n\\xff'\np1\naS'\\x01\\xff\\xd8\\x00\\n\\xff'\np2\n"
    b"aS'\\x02\\xff\\xd8\\x00\\n\\xff'\np3\naS'\\x03\\xff\\xd8\\x00\\n\\xff'\np4\na(lp5\nI01\naI00\natp6\n."
)
PYTHON2_PROTOCOL_2 = (
    b"\x80\x02]q\x00(U\x06\x00\xff\xd8\x00\n\xffq\x01U\x06\x01\xff\xd8\x00\n\xffq\x02U\x06\x02\xff\xd8\x00\n\xffq\x03"
    b"U\x06\x03\xff\xd8\x00\n\xffq\x04e]q\x05(\x88\x89e\x86q\x06."
)
PYTHON2_ARRAYS = (
    b"\x80\x02]q\x00("
    + b"".join(
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x06\x85"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06"
        + image
        + b"tb"
        for image in IMAGES
    )
    + b"e](\x88\x89e\x86."
)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", [bytes, lambda p: np.frombuffer(p, np.uint8), lambda p: np.array(list(p), np.uint8)])
def test_every_protocol_of_python_3_is_read(tmp_path, protocol, form):
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps(([form(image) for image in IMAGES], TRUTH), protocol=protocol))
    pairs = read_pairs(path)
    assert pairs.images == IMAGES
    assert pairs.is_same.tolist() == TRUTH


@pytest.mark.parametrize("content", [PYTHON2_PROTOCOL_0, PYTHON2_PROTOCOL_2, PYTHON2_ARRAYS])
def test_what_python_2_wrote_is_read(tmp_path, content):
    path = tmp_path / "set.bin"
    path.write_bytes(content)
    pairs = read_pairs(path)
    assert pairs.images == IMAGES
    assert pairs.is_same.tolist() == TRUTH


@pytest.mark.parametrize("truth", [np.array(TRUTH), [np.bool_(True), np.bool_(False)], (1, 0)])
@pytest.mark.parametrize("protocol", [2, 4])
def test_truth_may_be_an_array_or_numbers(tmp_path, truth, protocol):
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps((IMAGES, truth), protocol=protocol))
    assert read_pairs(path).is_same.tolist() == TRUTH


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_images_may_be_columns_as_older_opencv_encodes_them(tmp_path, protocol, shape):
    path = tmp_path / "set.bin"
    arrays = [np.frombuffer(image, np.uint8).copy().reshape(shape) for image in IMAGES]
    path.write_bytes(pickle.dumps((arrays, TRUTH), protocol=protocol))
    assert read_pairs(path).images == IMAGES


@pytest.mark.parametrize("protocol", range(6))
def test_images_may_be_byte_arrays(tmp_path, protocol):
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps(([bytearray(image) for image in [*IMAGES[:3], b""]], TRUTH), protocol=protocol))
    assert read_pairs(path).images == [*IMAGES[:3], b""]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["?", *np.typecodes["AllInteger"], "e", "f", "d", ">i8", ">u2", ">f4"])
def test_truth_may_be_of_any_numbers(tmp_path, protocol, kind):
    path, array = tmp_path / "set.bin", np.array(TRUTH).astype(kind)
    for truth in (array, list(array), array.reshape(-1, 1), array.tolist()):
        path.write_bytes(pickle.dumps((IMAGES, truth), protocol=protocol))
        assert read_pairs(path).is_same.tolist() == TRUTH


@pytest.mark.parametrize(
    "truth", [[0.5, 1.0], np.array([2, 0]), np.array([256, 0]), [float("nan"), 0.0], np.zeros((1, 2, 1))]
)
def test_other_numbers_and_shapes_are_no_truth(tmp_path, truth):
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps((IMAGES, truth)))
    with pytest.raises(DataError, match="expected true or false, or 1 or 0|not one row or column of numbers"):
        read_pairs(path)


def test_images_of_wider_numbers_are_refused(tmp_path):
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps(([np.zeros(4, np.int64)] * 4, TRUTH)))
    with pytest.raises(DataError, match=r"image 0 is an array of int64, expected encoded bytes \(uint8\)"):
        read_pairs(path)


def test_a_written_set_reads_back_and_python_2_could_read_it(tmp_path):
    path = tmp_path / "deep" / "set.bin"
    write_pairs(path, [*IMAGES[:3], b""], TRUTH)
    assert read_pairs(path).images == [*IMAGES[:3], b""]
    assert path.read_bytes()[:2] == b"\x80\x02"


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {mark}"),
        (subprocess.check_call, ["touch", "{mark}"]),
        (eval, "open('{mark}', 'w')"),
        (open, "{mark}", "w"),
        (getattr, os, "system"),
        (np.fromfile, "{mark}"),
        (np.zeros, 10**12),
        (bytes, 10**11),
        (bytearray, 10**11),
    ],
    ids=lambda call: getattr(call[0], "__name__", "call"),
)
def test_code_in_a_pickle_does_not_run(tmp_path, protocol, call):
    mark = tmp_path / "ran"
    function, *arguments = call
    filled = [
        [part.format(mark=mark) for part in argument]
        if isinstance(argument, list)
        else argument.format(mark=mark)
        if isinstance(argument, str)
        else argument
        for argument in arguments
        if argument is not os
    ]
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps(([*IMAGES, Runs(function, *filled)], TRUTH), protocol=protocol))
    with pytest.raises(DataError, match=r"set\.bin"):
        read_pairs(path)
    assert not mark.exists()


def test_the_error_says_what_a_pickle_asked_for(tmp_path):
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps((IMAGES, Runs(os.system, "true"))))
    with pytest.raises(DataError, match=r"asks for \w+.system, which no verification set needs; nothing was run"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no verification set"),
        (b"no pickle", "no verification set"),
        (pickle.dumps((IMAGES, TRUTH))[:-10], "no verification set"),
        (pickle.dumps(IMAGES), "expected"),
        (pickle.dumps({"a": 1}), "which none needs"),
        (pickle.dumps((IMAGES, TRUTH, 1)), "expected .images, is_same."),
        (pickle.dumps((IMAGES[:3], TRUTH)), "3 images for 2 pairs"),
        (pickle.dumps(([], [])), "0 images for 0 pairs"),
        (pickle.dumps((IMAGES, [True, 2])), "true or false, or 1 or 0, for each pair"),
        (pickle.dumps((IMAGES, [True, None])), "true or false, or 1 or 0, for each pair"),
        (pickle.dumps(([1, 2, 3, 4], TRUTH)), "image 0 is int"),
        (pickle.dumps(([np.zeros((2, 2), np.uint8)] * 4, TRUTH)), "not one row or column of numbers"),
        (pickle.dumps(([np.zeros(4)] * 4, TRUTH)), "expected encoded bytes"),
        (pickle.dumps(([np.array([b"x"], object)] * 4, TRUTH)), "expected numbers, such as bytes"),
        (b"\x80\x04B\xff\xff\xff\x7f", "no verification set"),
        (b"\x80\x02})" + b"\x85" * 1_500_000 + b"Ns.", "instruction b'}'"),  # nests until Python's own reader crashes
        (b"\x80\x02)" + b"\x85" * 1_500_000 + b".", "more pieces than images"),
        (b"\x80\x02]r\xff\xff\xff\x3f.", "expected"),  # a memo of 16 GB
        (
            b"\x80\x02c_codecs\nencode\nq\x01X\x10\0\0\0" + b"x" * 16 + b"\x85q\x00R" + b"h\x01h\x00R" * 99 + b".",
            "more bytes than it holds",
        ),
        (b"\x80\x02c_codecs\nencode\nN}X\x01\0\0\0as\x86b.", "instruction b'}'"),  # would change a function
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
        (pickle.dumps((IMAGES, [True, np.uint8(2)]), protocol=2), "true or false, or 1 or 0, for each pair"),
    ],
)
def test_what_is_no_verification_set_is_refused(tmp_path, content, message):
    path = tmp_path / "set.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pairs(path)


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(DataError, match=r"^cannot read .*nothing\.bin: No such file"):
        read_pairs(tmp_path / "nothing.bin")


def test_two_sets_of_one_name_are_refused(tmp_path, pairs_set):
    paths = [tmp_path / "a" / "set.bin", tmp_path / "b" / "set.bin"]
    for path in paths:
        write_pairs(path, *pairs_set)
    assert list(read_sets(paths[:1])) == ["set"]
    with pytest.raises(DataError, match="two verification sets are called set"):
        read_sets(paths)


def face(value):
    return encode_png(np.full((112, 112, 3), value, np.uint8))


@pytest.fixture
def people(tmp_path):
    for name, count in (("Ada_Lovelace", 3), ("Bo", 2)):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (tmp_path / "people" / name / f"{name}_{number:04d}.png").write_bytes(face(40 * number))
    return tmp_path / "people"


def test_lfw_pairs_file_becomes_a_set(people, tmp_path):
    lines = tmp_path / "pairs.txt"
    lines.write_text("1\t2\nAda_Lovelace\t1\t3\nBo\t1\t2\nAda_Lovelace\t2\tBo\t1\n\nBo\t2\tAda_Lovelace\t3\n")
    pairs = pairs_from_folder(people, lines)
    assert pairs.is_same.tolist() == [True, True, False, False]
    assert len(pairs.images) == 8
    assert check_pairs(pairs) == []


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", "])
@pytest.mark.parametrize("header", ["", "path1,path2,label\n", "first second is_same\n"])
def test_a_list_of_two_paths_and_a_label_becomes_a_set(people, tmp_path, separator, header):
    names = ["Ada_Lovelace/Ada_Lovelace_0001.png", "Bo/Bo_0002.png", "Bo/Bo_0001.png"]
    rows = [(names[0], names[1], "0"), (names[1], names[2], "1"), (names[2], names[0], "0")]
    (tmp_path / "pairs.txt").write_text(header + "".join(separator.join(row) + "\n" for row in rows))
    pairs = pairs_from_folder(people, tmp_path / "pairs.txt")
    assert pairs.is_same.tolist() == [False, True, False]
    levels = [int(decode_image(image, "face").mean().round()) for image in pairs.images]
    assert levels == [40, 80, 80, 40, 40, 40]


def test_a_path_may_hold_blanks_where_tabs_or_commas_separate(people, tmp_path):
    (people / "Bo" / "Bo_0001.png").rename(people / "Bo" / "by the sea.png")
    (tmp_path / "pairs.txt").write_text("Bo/by the sea.png\tBo/Bo_0002.png\t1\nBo/Bo_0002.png, Bo/by the sea.png, 0\n")
    assert pairs_from_folder(people, tmp_path / "pairs.txt").is_same.tolist() == [True, False]


def test_a_image_in_several_pairs_is_read_once(people, tmp_path, monkeypatch):
    (tmp_path / "pairs.txt").write_text("Bo 1 2\nBo 1 Ada_Lovelace 1\nBo 2 1\n")
    reads = []
    monkeypatch.setattr(
        "vargfacenet.eval.pairs.as_face_jpeg", lambda encoded, where, **_: reads.append(where) or encoded
    )
    assert len(pairs_from_folder(people, tmp_path / "pairs.txt").images) == 6
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
        ("Bo/Bo_0001.png ../people/Bo/Bo_0001.png 1\n", "line 1: ../people/Bo/Bo_0001.png leads out of the folder"),
        ("a b same\na b label\n", "line 2 reads 'a b label'"),
    ],
)
def test_a_wrong_pairs_file_is_reported_by_line(people, tmp_path, text, message):
    lines = tmp_path / "pairs.txt"
    lines.write_text(text)
    with pytest.raises(DataError, match=message):
        pairs_from_folder(people, lines)


def test_a_image_that_is_none_is_refused(people, tmp_path):
    (people / "Bo" / "Bo_0001.png").write_bytes(b"hello")
    lines = tmp_path / "pairs.txt"
    lines.write_text("Bo 1 2\n")
    with pytest.raises(DataError, match="Bo_0001.png: 5 bytes that are not an image"):
        pairs_from_folder(people, lines)


def test_check_names_the_images_that_cannot_be_used(tmp_path, pairs_set):
    images, is_same = pairs_set
    images = list(images)
    images[3], images[5] = b"hello", images[5][:-40]
    path = tmp_path / "set.bin"
    write_pairs(path, images, is_same)
    bad = dict(check_pairs(read_pairs(path)))
    assert set(bad) == {3, 5}
    assert "no image" in bad[3]
    assert "cut" in bad[5]
