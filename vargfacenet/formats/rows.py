"""Arrays on disk that grow by blocks of rows, and whose writing can be resumed."""

from __future__ import annotations

import fcntl
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import IO

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import StoredRows
from vargfacenet.formats.files import PathLike, atomic_path, digest, write_text

log = logging.getLogger(__name__)


def write_rows(
    path: PathLike,
    shape: Sequence[int],
    dtype: str,
    make: Callable[[int], Iterable[np.ndarray]],
    *,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write an ``.npy`` array completely or not at all. An interrupted call leaves a ``.part`` file that the next resumes.

    Parameters
    ----------
    path
        The array file.
    shape
        Of the array, with rows along its first axis.
    dtype
        Such as ``<f4``.
    make
        Takes the number of rows that are already there, and returns the further rows, some at a time.
    progress
        Called with the number of rows done since the last call.

    Raises
    ------
    DataError
        Where the disk is full.

    Where another process writes the same array, this one waits for it, and says so; one that has ended, however it ended,
    is not waited for.
    """
    part = pathlib.Path(path).with_suffix(".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        while not _written_alone(pathlib.Path(path), part, shape, dtype, make, progress):
            if pathlib.Path(path).exists():
                return
    except OSError as error:
        raise DataError(f"cannot write {part}: {error.strerror or error}; run the same again to resume") from error


def _written_alone(
    path: pathlib.Path,
    part: pathlib.Path,
    shape: Sequence[int],
    dtype: str,
    make: Callable[[int], Iterable[np.ndarray]],
    progress: Callable[[int], object] | None,
) -> bool:
    """Write the array; return False where another process took the part file away before this one had its lock."""
    row_bytes = int(np.dtype(dtype).itemsize * np.prod(shape[1:], dtype=np.int64))
    # A memory map would end the process on a full disk.
    with open(part, "ab") as file:
        _lock(file, part)
        if not is_same_file(file, part):
            return False
        file.seek(0, os.SEEK_END)  # another process may have written since it was opened
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
        with atomic_path(path) as temporary, open(temporary, "wb") as whole, open(part, "rb") as source:
            header = {"descr": dtype, "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(whole, header)
            shutil.copyfileobj(source, whole)
            whole.flush()
            write_text(digest_file(path), digest(temporary) + "\n")  # before the array, which counts with it
        part.unlink()
    return True


def open_rows(path: PathLike, shape: Sequence[int], dtype: str, remedy: str) -> StoredRows:
    """Return an array file as `vargfacenet.formats.arrays.StoredRows`.

    DataError, which ends in `remedy`, where the file is damaged or has another shape or type. An array of an earlier version
    has no digest, and is taken as it is.
    """
    try:
        array = StoredRows(path)
        noted = digest_file(path)
        if noted.exists() and noted.read_text(errors="replace").strip() != digest(path):
            raise DataError(f"{path} is damaged: its digest is not the one noted when it was written")
    except DataError as error:
        raise DataError(f"{error}; delete it and {remedy}") from None
    if (array.dtype, array.shape) != (np.dtype(dtype), tuple(shape)):
        expected = f"{np.dtype(dtype)} {tuple(shape)}"
        raise DataError(f"{path} holds {array.dtype} {array.shape}, expected {expected}; delete it and {remedy}")
    return array


def digest_file(path: PathLike) -> pathlib.Path:
    """Return the file that holds the digest of an array file."""
    return pathlib.Path(path).with_suffix(".blake2b")


def remove_part(part: PathLike) -> bool:
    """Remove a ``.part`` file unless a process is writing it; return whether it is gone."""
    try:
        with open(part, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(part)  # by a process that waits for the lock it is not taken for its own then
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def _sound_rows(part: PathLike, rows: int, row_bytes: int) -> int:
    """Return the number of rows without those of zeros that a loss of power leaves at the end of a file."""
    with open(part, "rb") as file:
        while rows:
            file.seek((rows - 1) * row_bytes)
            if file.read(row_bytes).count(0) < row_bytes:
                break
            rows -= 1
    return rows


def is_same_file(file: IO[bytes], path: PathLike) -> bool:
    """Return whether an open file is the one that has a path now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def _lock(file: IO[bytes], part: PathLike) -> None:
    """Lock a file, which its process loses with its end; wait for another process that has it, and say so."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another process is writing %s: waiting for it", part)
        fcntl.flock(file, fcntl.LOCK_EX)
