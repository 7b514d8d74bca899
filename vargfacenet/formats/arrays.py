"""Read NumPy's ``.npy`` and ``.npz`` files without NumPy's own reader and without pickle: arrays of numbers or text.

NumPy's reader evaluates a header as Python source, and allocates whatever size a few bytes of an archive announce.
"""

from __future__ import annotations

import io
import math
import os
import re
import weakref
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.files import PathLike

MOST_HEADER, MOST_ARRAYS = 1024, 64
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '([<|][fiubUS]\d{1,6})', 'fortran_order': False, 'shape': \(((?:\d{1,12}, ?)*\d{0,12})\),? ?\}\s*"
)


def npy_header(content: bytes, where: object) -> tuple[np.dtype, tuple[int, ...], int]:
    """Return type, shape and the offset of the numbers, from the first bytes (`MOST_HEADER` or all) of an ``.npy``.

    DataError, naming the source `where`, for an invalid header, and for one of objects, records or big-endian numbers.
    """
    try:
        begin = 10 if content[6] == 1 else 12
        end = begin + int.from_bytes(content[8:begin], "little")
        found = _HEADER.fullmatch(content[begin:end])
        if content[:6] != _MAGIC or content[6] > 3 or end > MOST_HEADER or not found:
            raise ValueError
        dtype = np.dtype(found[1].decode())
        shape = tuple(int(length) for length in found[2].replace(b" ", b"").split(b",") if length)
    except (ValueError, IndexError, TypeError):
        raise DataError(f"{where} is damaged, or is not an array of numbers or text as NumPy saves it") from None
    return dtype, shape, end


def read_npy(content: bytes, where: object) -> np.ndarray:
    """Return the array in the bytes of an ``.npy``, as a view of them.

    DataError as from `npy_header`, and where the length does not fit the header.
    """
    dtype, shape, begin = npy_header(content, where)
    size = math.prod(shape) * dtype.itemsize
    if size != len(content) - begin or not dtype.itemsize:
        raise DataError(f"{where} is damaged: it announces {size} bytes of numbers and has {len(content) - begin}")
    return np.frombuffer(content, dtype, math.prod(shape), begin).reshape(shape)


class FileRows:
    """The rows of an array in a file, read on request from any number of threads.

    A file that becomes shorter meanwhile raises an error; a memory map of it would end the process.

    `dtype` and `shape` are those of the whole array, with rows along its first axis; its numbers lie from byte `begin` to
    the end of the file. DataError where the file cannot be read, or has another length.
    """

    def __init__(self, path: PathLike, dtype: Any, shape: Sequence[int], begin: int) -> None:
        self._path, self.dtype, self.shape, self.begin = path, np.dtype(dtype), tuple(shape), begin
        self._descriptor, size = _opened(path, self)
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        announced = math.prod(self.shape) * self.dtype.itemsize
        if not self.shape or announced != size - begin:
            raise DataError(f"{path} is damaged: it announces {announced} bytes of numbers and has {size - begin}")

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return a row by its number, or several by a slice of step 1 or an array of numbers."""
        if isinstance(rows, slice):
            begin, end, _ = rows.indices(len(self))
            return self._read(begin, max(end - begin, 0))
        if np.ndim(rows):
            return np.stack([self[row] for row in rows]) if len(rows) else self._read(0, 0)
        if not 0 <= rows < len(self):
            raise IndexError(f"row {rows} of {len(self)}")
        return self._read(int(rows), 1)[0]

    def _read(self, first: int, count: int) -> np.ndarray:
        content = _bytes(self._descriptor, self._path, count * self._row_bytes, self.begin + first * self._row_bytes)
        return np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])


class StoredRows(FileRows):
    """The rows of an ``.npy`` file; DataError also where it is not an array of numbers."""

    def __init__(self, path: PathLike) -> None:
        descriptor, size = _opened(path, self)
        super().__init__(path, *npy_header(_bytes(descriptor, path, min(MOST_HEADER, size), 0), path))


def _opened(path: PathLike, owner: object) -> tuple[int, int]:
    """Return the descriptor of a file, closed when its owner is collected, and the size of the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(owner, os.close, descriptor)
        return descriptor, os.fstat(descriptor).st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _bytes(descriptor: int, path: PathLike, count: int, offset: int) -> bytes:
    parts = []
    while count:  # one call returns at most some 2 GiB
        try:
            part = os.pread(descriptor, count, offset)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        if not part:
            raise DataError(f"{path} has become shorter since it was opened")
        parts.append(part)
        count, offset = count - len(part), offset + len(part)
    return b"".join(parts)


def read_npz(content: bytes, where: object) -> dict[str, np.ndarray]:
    """Return the arrays, by name, in the bytes of an uncompressed ``.npz`` as ``numpy.savez`` writes it; or DataError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or len(members) > MOST_ARRAYS or sum(member.file_size for member in members) > len(content):
                raise DataError(
                    f"{where} is not an archive of arrays: it has {len(members)} parts, compressed or too large"
                )
            return {member.filename[: -len(".npy")]: read_npy(archive.read(member), where) for member in members}
    except (
        zipfile.BadZipFile,
        ValueError,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise DataError(f"{where} is damaged, or is not an archive of arrays as NumPy saves it") from error
