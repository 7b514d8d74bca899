"""Feature files of the challenge: a header of four int32 (rows, columns, 4 * columns, 5), then the rows as float32.

The header is that of an OpenCV matrix; 5 stands for float32.
"""

from __future__ import annotations

import os
import pathlib
import struct
from collections.abc import Iterable

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import FileRows
from vargfacenet.formats.files import atomic_path

_HEADER, _FLOAT32 = struct.Struct("<4i"), 5
MOST_COLUMNS = 1 << 16


def write_features(path: str | os.PathLike[str], blocks: Iterable[np.ndarray], count: int) -> int:
    """Write a feature file, whole or not at all, and return the number of columns.

    Parameters
    ----------
    path
        The file.
    blocks
        Blocks of rows, float32 (any, d); memory does not grow with their number.
    count
        Number of rows.

    Raises
    ------
    DataError
        If the rows differ from `count` in number, differ in length or are not finite, or the file cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        done = size = 0
        for block in blocks:
            block = np.ascontiguousarray(block, "<f4")
            if not done:
                size = block.shape[1]
                file.write(_HEADER.pack(count, size, 4 * size, _FLOAT32))
            if block.shape[1] != size:
                raise DataError(f"{path}: row {done} has {block.shape[1]} numbers, those before it {size}")
            if not np.isfinite(block).all():
                raise DataError(
                    f"{path}: rows {done}..{done + len(block) - 1} hold NaN or infinity: the network is damaged"
                )
            file.write(block.tobytes())
            done += len(block)
        if done != count:
            raise DataError(f"{path}: {done} rows were given, expected {count}")
    return size


def read_features(path: str | os.PathLike[str]) -> FileRows:
    """Open a feature file: float32 (rows, columns).

    Raises
    ------
    DataError
        If it is missing, its header is malformed, or its size differs from what the header announces.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_HEADER.size)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if len(header) < _HEADER.size:
        raise DataError(f"{path} is not a feature file: {size} bytes, fewer than a header")
    rows, columns, stride, kind = _HEADER.unpack(header)
    if not (rows >= 1 and 1 <= columns <= MOST_COLUMNS and stride == 4 * columns and kind == _FLOAT32):
        raise DataError(
            f"{path} is not a feature file: its header reads {rows}, {columns}, {stride}, {kind}, expected rows, columns, "
            f"4 * columns, {_FLOAT32}"
        )
    expected = _HEADER.size + 4 * rows * columns
    if size != expected:
        raise DataError(
            f"{path} has {size} bytes, its header announces {rows} rows of {columns}, {expected} bytes; make it again"
        )
    return FileRows(path, "<f4", (rows, columns), _HEADER.size)
