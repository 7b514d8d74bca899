"""Read and write MXNet's ``.params`` files without MXNet's own reader.

That reader, in C++, allocates any length or shape that a file states. Here each length is compared with the bytes that are
left before anything is allocated, and MXNet receives only the resulting arrays. The format is that of MXNet 0.8 to 1.9: the
number 0x112, a list of arrays, a list of names. An array has a version (in the oldest files its number of dimensions
instead), its shape, its device, its type, and its numbers.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError
from vargfacenet.formats.content import what_it_is
from vargfacenet.formats.files import PathLike

LIST_MAGIC = 0x112
SHAPE_64, WITH_STORAGE, NUMPY_SHAPE = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = dict(enumerate(("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")))
_KINDS = {name: kind for kind, name in TYPES.items()}
_DENSE, _CPU = 0, 1  # kinds of storage and of device, as include/mxnet/ndarray.h numbers them
MOST_ARRAYS, MOST_DIMENSIONS, MOST_NAME = 1 << 16, 32, 1024
_SMALLEST = 24  # bytes of an array of one dimension
_LOOKED_AT = 64  # first bytes, by which a file of another kind is named


def load_params(path: PathLike) -> dict[str, mx.nd.NDArray]:
    """Return the arrays of a ``.params`` file by name, on the CPU, of the types that the file states.

    CheckpointError where the file cannot be read, is cut or damaged, or holds anything but dense arrays with unique names.
    """
    try:
        with open(path, "rb") as file:
            return read_params(file, os.fstat(file.fileno()).st_size, path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def read_params(file: io.BufferedIOBase, size: int, where: object) -> dict[str, mx.nd.NDArray]:
    """Return the arrays of an open file of `size` bytes, as `load_params`; `where` is its name for errors."""
    start = file.read(_LOOKED_AT)
    file.seek(0)
    reader = _Reader(file, size)
    try:
        magic, _ = reader.numbers("<QQ")
        if magic != LIST_MAGIC:
            raise _Fault("it does not begin with the number 0x112")
        arrays = [_array(reader) for _ in range(reader.count(_SMALLEST))]
        names = [_name(reader) for _ in range(reader.count(8))]
        if reader.left:
            raise _Fault(f"{reader.left} bytes follow the last name")
    except _Fault as error:
        raise CheckpointError(
            f"{where} is not a file of MXNet parameters, or is damaged: {error}{what_it_is(start)}"
        ) from None
    if arrays and not names:
        raise CheckpointError(f"{where} holds arrays without names: it is not a checkpoint")
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise CheckpointError(
            f"{where} holds {len(arrays)} arrays with {len(set(names))} different names: it is damaged"
        )
    return dict(zip(names, arrays))


def write_params(file: io.BufferedIOBase, arrays: Mapping[str, mx.nd.NDArray]) -> None:
    """Write arrays, each of one dimension or more, to an open file. They are copied to the CPU one at a time."""
    file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)))
    for array in arrays.values():
        values = np.ascontiguousarray(array.asnumpy())
        shape = struct.pack(f"<i{values.ndim}q", values.ndim, *values.shape)
        file.write(
            struct.pack("<Ii", WITH_STORAGE, _DENSE) + shape + struct.pack("<iii", _CPU, 0, _KINDS[values.dtype.name])
        )
        file.write(values.data.cast("B"))
    file.write(struct.pack("<Q", len(arrays)))
    for name in arrays:
        text = name.encode()
        file.write(struct.pack("<Q", len(text)) + text)


class _Fault(Exception):
    """Description of the damage in a file."""


class _Reader:
    """An open file, and the number of its bytes that are left."""

    def __init__(self, file: io.BufferedIOBase, size: int) -> None:
        self._file, self.left = file, size

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.claim(count)
        part = self._file.read(count)
        if len(part) < count:
            raise _Fault("it has become shorter while it was read")
        return part

    def claim(self, count: int) -> None:
        """Subtract bytes from those that are left, or raise where there are fewer."""
        if count > self.left:
            raise _Fault(f"it announces {count} bytes where {self.left} are left")
        self.left -= count

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def count(self, smallest: int) -> int:
        """Return the length of a list whose items have at least `smallest` bytes."""
        (count,) = self.numbers("<Q")
        if count > MOST_ARRAYS or count * smallest > self.left:
            raise _Fault(f"it announces a list of {count} where {self.left} bytes are left")
        return count

    def array(self, dtype: str, shape: Sequence[int]) -> mx.nd.NDArray:
        """Return the numbers of an array."""
        total = np.dtype(dtype).itemsize
        for length in shape:
            total *= length  # Python's integers do not overflow
        self.claim(total)
        values = np.empty(shape, dtype)
        if self._file.readinto(values.data.cast("B")) < values.nbytes:
            raise _Fault("it has become shorter while it was read")
        return mx.nd.array(values, dtype=dtype)


def _array(reader: _Reader) -> mx.nd.NDArray:
    (version,) = reader.numbers("<I")
    if version in (WITH_STORAGE, NUMPY_SHAPE):
        (storage,) = reader.numbers("<i")
        if storage != _DENSE:
            raise _Fault(f"it holds an array of storage type {storage}, expected dense ones (0)")
    is_oldest = version not in (SHAPE_64, WITH_STORAGE, NUMPY_SHAPE)
    (dimensions,) = (version,) if is_oldest else reader.numbers("<i")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise _Fault(f"it holds an array of {dimensions} dimensions, expected 1 to {MOST_DIMENSIONS}")
    shape = reader.numbers(f"<{dimensions}{'I' if is_oldest else 'q'}")
    if min(shape) < 1:
        raise _Fault(f"it holds an array of shape {shape}")
    *_, kind = reader.numbers("<iii")  # after the kind and number of the device
    if kind not in TYPES:
        raise _Fault(f"it holds numbers of type {kind}, expected 0 to {max(TYPES)}")
    return reader.array(TYPES[kind], shape)


def _name(reader: _Reader) -> str:
    (length,) = reader.numbers("<Q")
    if length > MOST_NAME:
        raise _Fault(f"it holds a name of {length} bytes")
    try:
        return reader.take(length).decode("utf-8")
    except UnicodeDecodeError:
        raise _Fault("it holds a name that is not UTF-8 text") from None
