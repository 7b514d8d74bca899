"""NumPy's files: what it saves reads equal, and no header is evaluated or believed."""

import io
import zipfile

import numpy as np
import pytest

from vargfacenet.arrays import read_npy, read_npz
from vargfacenet.errors import DataError


def saved(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.zeros((3, 2, 4), np.float16),
        np.array(["anna", "b\u00e9"]),
        np.array("text"),
        np.zeros((0, 5)),
        np.array([True]),
        np.arange(300).reshape(1, 300),
    ],
)
def test_what_numpy_saves_reads_equal(array):
    found = read_npy(saved(array), "x.npy")
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    content = io.BytesIO()
    np.savez(content, one=array, two=np.ones(2))
    np.testing.assert_array_equal(read_npz(content.getvalue(), "x.npz")["one"], array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        saved(np.arange(5))[:-1],
        saved(np.arange(5)) + b"x",
        saved(np.array([object()], object)),
        saved(np.zeros(2, [("a", "f4")])),
        saved(np.zeros(2, ">f4")),
        saved(np.zeros((2, 2), order="F")),
        header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 999999999999), }"),
        header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        header(b"{'descr': '<U0', 'fortran_order': False, 'shape': (5,), }"),
        header(b"__import__('os').system('true')"),
        header(b"(" * 1000),
        header(b"\xff" * 900),
    ],
)
def test_anything_else_is_refused(content):
    with pytest.raises(DataError, match=r"^x.npy is damaged"):
        read_npy(content, "x.npy")


def archive(method=zipfile.ZIP_STORED, parts=1, content=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for part in range(parts):
            written.writestr(f"{part}.npy", saved(np.zeros(100_000)) if content is None else content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        archive()[:-30],
        archive(zipfile.ZIP_DEFLATED),  # 800 kB in one
        archive(parts=100, content=saved(np.zeros(1))),
        archive(content=b"hello"),
        archive().replace(b"\x00" * 64, b"\x01" + b"\x00" * 63, 1),  # another checksum
    ],
)
def test_an_archive_that_is_damaged_or_packed_is_refused(content):
    with pytest.raises(DataError, match=r"^x.npz is"):
        read_npz(content, "x.npz")
