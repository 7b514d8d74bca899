"""Verification sets: all pickles that Python writes for them, and nothing else."""

import os
import pickle
import subprocess

import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.eval import read_pairs, read_sets, write_pairs
from vargfacenet.eval.pairs import check_pairs

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
def test_sets_of_python_2_are_read(tmp_path, content):
    path = tmp_path / "set.bin"
    path.write_bytes(content)
    pairs = read_pairs(path)
    assert pairs.images == IMAGES
    assert pairs.is_same.tolist() == TRUTH


@pytest.mark.parametrize("truth", [np.array(TRUTH), [np.bool_(True), np.bool_(False)], (1, 0)])
@pytest.mark.parametrize("protocol", [2, 4])
def test_labels_may_be_an_array_or_numbers(tmp_path, truth, protocol):
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
def test_labels_may_be_of_any_number_type(tmp_path, protocol, kind):
    path, array = tmp_path / "set.bin", np.array(TRUTH).astype(kind)
    for truth in (array, list(array), array.reshape(-1, 1), array.tolist()):
        path.write_bytes(pickle.dumps((IMAGES, truth), protocol=protocol))
        assert read_pairs(path).is_same.tolist() == TRUTH


@pytest.mark.parametrize(
    "truth", [[0.5, 1.0], np.array([2, 0]), np.array([256, 0]), [float("nan"), 0.0], np.zeros((1, 2, 1))]
)
def test_labels_of_other_numbers_and_shapes_are_refused(tmp_path, truth):
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
        (b"", "not a verification set"),
        (b"no pickle", "not a verification set"),
        (pickle.dumps((IMAGES, TRUTH))[:-10], "not a verification set"),
        (pickle.dumps(IMAGES), "expected"),
        (pickle.dumps({"a": 1}), "which no such set needs"),
        (pickle.dumps((IMAGES, TRUTH, 1)), "expected .images, is_same."),
        (pickle.dumps((IMAGES[:3], TRUTH)), "3 images for 2 pairs"),
        (pickle.dumps(([], [])), "0 images for 0 pairs"),
        (pickle.dumps((IMAGES, [True, 2])), "true or false, or 1 or 0, as the label of each pair"),
        (pickle.dumps((IMAGES, [True, None])), "true or false, or 1 or 0, as the label of each pair"),
        (pickle.dumps(([1, 2, 3, 4], TRUTH)), "image 0 is int"),
        (pickle.dumps(([np.zeros((2, 2), np.uint8)] * 4, TRUTH)), "not one row or column of numbers"),
        (pickle.dumps(([np.zeros(4)] * 4, TRUTH)), "expected encoded bytes"),
        (pickle.dumps(([np.array([b"x"], object)] * 4, TRUTH)), "expected numbers, such as bytes"),
        (b"\x80\x04B\xff\xff\xff\x7f", "not a verification set"),
        (b"\x80\x02})" + b"\x85" * 1_500_000 + b"Ns.", "instruction b'}'"),  # nests until Python's own reader crashes
        (b"\x80\x02)" + b"\x85" * 1_500_000 + b".", "more objects than images"),
        (b"\x80\x02]r\xff\xff\xff\x3f.", "expected"),  # a memo of 16 GB
        (
            b"\x80\x02c_codecs\nencode\nq\x01X\x10\0\0\0" + b"x" * 16 + b"\x85q\x00R" + b"h\x01h\x00R" * 99 + b".",
            "more bytes than it holds",
        ),
        (b"\x80\x02c_codecs\nencode\nN}X\x01\0\0\0as\x86b.", "instruction b'}'"),  # would change a function
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
        (
            pickle.dumps((IMAGES, [True, np.uint8(2)]), protocol=2),
            "true or false, or 1 or 0, as the label of each pair",
        ),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, message):
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


def test_check_names_the_images_that_cannot_be_used(tmp_path, pairs_set):
    images, is_same = pairs_set
    images = list(images)
    images[3], images[5] = b"hello", images[5][:-40]
    path = tmp_path / "set.bin"
    write_pairs(path, images, is_same)
    bad = dict(check_pairs(read_pairs(path)))
    assert set(bad) == {3, 5}
    assert "not an image" in bad[3]
    assert "cut" in bad[5]
