"""Arrays on disk that grow a block of rows at a time, and whose making goes on where it was stopped."""

import fcntl
import pathlib
import shutil

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import StoredRows
from vargfacenet.formats.files import atomic_path


def write_rows(path, shape, dtype, make, *, progress=None):
    """Writes an ``.npy`` array, whole or not at all; what a stop leaves in ``.part`` beside it the next call goes on with.

    Parameters
    ----------
    path : path
        The array file.
    shape : tuple of int
        Of the array; rows are along its first axis.
    dtype : str
        Such as ``<f4``.
    make : callable
        Given the number of rows that are there, an iterable of the further rows, some at a time.
    progress : callable, optional
        Called with the number of rows done since the last call.

    Raises
    ------
    DataError
        Where another process writes the same, or the disk is full.
    """
    row_bytes = int(np.dtype(dtype).itemsize * np.prod(shape[1:], dtype=np.int64))
    part = pathlib.Path(path).with_suffix(".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        # Not through a memory map, which on a full disk kills the process.
        with open(part, "ab") as file:
            _lock(file, part)
            done = _sound_rows(part, min(file.tell() // row_bytes, shape[0]), row_bytes)
            file.truncate(done * row_bytes)
            if progress and done:
                progress(done)
            for rows in make(done):
                file.write(np.ascontiguousarray(rows, dtype).tobytes())
                if progress:
                    progress(len(rows))
            file.flush()
            if file.tell() != row_bytes * shape[0]:
                raise DataError(f"{part} has {file.tell() // row_bytes} rows, expected {shape[0]}: run the same again")
            with atomic_path(path) as temporary, open(temporary, "wb") as whole, open(part, "rb") as rows:
                header = {"descr": dtype, "fortran_order": False, "shape": tuple(shape)}
                np.lib.format.write_array_header_1_0(whole, header)
                shutil.copyfileobj(rows, whole)
            part.unlink()
    except OSError as error:
        raise DataError(f"cannot write {part}: {error.strerror or error}; run the same again to go on") from error


def open_rows(path, shape, dtype, remedy):
    """Return an array file as `vargfacenet.formats.arrays.StoredRows`.

    DataError, which ends in `remedy`, where the file is damaged or of another shape or type.
    """
    try:
        array = StoredRows(path)
    except DataError as error:
        raise DataError(f"{error}; delete it and {remedy}") from None
    if (array.dtype, array.shape) != (np.dtype(dtype), tuple(shape)):
        expected = f"{np.dtype(dtype)} {tuple(shape)}"
        raise DataError(f"{path} holds {array.dtype} {array.shape}, expected {expected}; delete it and {remedy}")
    return array


def is_being_written(part):
    """Whether a process is writing a ``.part`` file (bool)."""
    with open(part, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _sound_rows(part, rows, row_bytes):
    """How many rows there are without the zeros that a machine which lost its power leaves at the end of a file."""
    with open(part, "rb") as file:
        while rows:
            file.seek((rows - 1) * row_bytes)
            if file.read(row_bytes).count(0) < row_bytes:
                break
            rows -= 1
    return rows


def _lock(file, part):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"another process is writing {part}: wait for it, or stop it") from error
