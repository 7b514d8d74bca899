"""NumPy's files: what it saves reads equal, and no header is evaluated or believed."""

import io
import zipfile

import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import StoredRows, read_npy, read_npz


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


def test_rows_are_read_one_at_a_time(tmp_path):
    array = np.arange(24, dtype=np.float16).reshape(4, 2, 3)
    np.save(tmp_path / "x.npy", array)
    rows = StoredRows(tmp_path / "x.npy")
    assert (len(rows), rows.dtype, rows.shape) == (4, np.float16, (4, 2, 3))
    for row in range(4):
        np.testing.assert_array_equal(rows[np.int64(row)], array[row])
    with pytest.raises(IndexError, match="row 4 of 4"):
        rows[4]


def test_rows_of_a_file_that_is_cut_while_it_is_open_are_an_error(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4000, 100)))
    rows = StoredRows(tmp_path / "x.npy")
    with open(tmp_path / "x.npy", "r+b") as file:
        file.truncate(8000)
    rows[5]
    with pytest.raises(DataError, match=r"x.npy has become shorter since it was opened"):
        rows[3999]


def test_rows_that_are_not_there_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    with open(tmp_path / "x.npy", "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="announces 64 bytes of numbers and has 65"):
        StoredRows(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.zeros(()))
    with pytest.raises(DataError, match="x.npy is damaged"):
        StoredRows(tmp_path / "x.npy")
    with pytest.raises(DataError, match="cannot read"):
        StoredRows(tmp_path / "y.npy")
