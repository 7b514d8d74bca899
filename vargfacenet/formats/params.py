"""Reads and writes MXNet's ``.params`` files by itself: names, and arrays of numbers that are there.

MXNet's own reader, in C++, believes what a file says: a length or shape of a few bytes has it allocate as much. Here
every length is held against the bytes that are left before anything is made of it, and the arrays are made from those
bytes; MXNet sees none of the file. The format is what MXNet 0.8 to 1.9 write: the number 0x112, a list of arrays, a list
of names. An array is a version (a number, or in the oldest files its number of dimensions), its shape, the device it was
on, its type, and its numbers.
"""

import os
import struct

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError

LIST_MAGIC = 0x112
SHAPE_64, WITH_STORAGE, NUMPY_SHAPE = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = dict(enumerate(("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")))
_KINDS = {name: kind for kind, name in TYPES.items()}
_DENSE, _CPU = 0, 1  # kinds of storage and of device, as include/mxnet/ndarray.h numbers them
MOST_ARRAYS, MOST_DIMENSIONS, MOST_NAME = 1 << 16, 32, 1024
_SMALLEST = 24  # bytes of an array of one dimension


def load_params(path):
    """The arrays of a ``.params`` file: dict of name to NDArray on the CPU, of the type that the file says.

    Raises
    ------
    CheckpointError
        Where it cannot be read, is cut or damaged, or holds anything but dense arrays, each with a name of its own.
    """
    try:
        with open(path, "rb") as file:
            return read_params(file, os.fstat(file.fileno()).st_size, path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def read_params(file, size, where):
    """The same of an open file (binary) of `size` bytes; `where` is its name for errors."""
    reader = _Reader(file, size)
    try:
        magic, _ = reader.numbers("<QQ")
        if magic != LIST_MAGIC:
            raise _Fault("it does not begin as such a file does")
        arrays = [_array(reader) for _ in range(reader.count(_SMALLEST))]
        names = [_name(reader) for _ in range(reader.count(8))]
        if reader.left:
            raise _Fault(f"{reader.left} bytes follow the last name")
    except _Fault as error:
        raise CheckpointError(f"{where} holds no MXNet parameters, or is damaged: {error}") from None
    if arrays and not names:
        raise CheckpointError(f"{where} holds arrays without names: it is no checkpoint")
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise CheckpointError(
            f"{where} holds {len(arrays)} arrays with {len(set(names))} different names: it is damaged"
        )
    return dict(zip(names, arrays))


def write_params(file, arrays):
    """Writes arrays (dict of str to NDArray, each of one dimension or more) to a file that is open for writing bytes.

    Arrays are brought to the CPU one at a time.
    """
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
    """What is wrong with a file."""


class _Reader:
    """A file, and how many of its bytes are left."""

    def __init__(self, file, size):
        self._file, self.left = file, size

    def take(self, count):
        """The next bytes."""
        self.claim(count)
        part = self._file.read(count)
        if len(part) < count:
            raise _Fault("it has become shorter while it was read")
        return part

    def claim(self, count):
        """Counts bytes as taken, where they are there."""
        if count > self.left:
            raise _Fault(f"it announces {count} bytes where {self.left} are left")
        self.left -= count

    def numbers(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def count(self, smallest):
        """The length of a list whose items have `smallest` bytes or more."""
        (count,) = self.numbers("<Q")
        if count > MOST_ARRAYS or count * smallest > self.left:
            raise _Fault(f"it announces a list of {count} where {self.left} bytes are left")
        return count

    def array(self, dtype, shape):
        """The numbers of an array."""
        dtype, total = np.dtype(dtype), 1
        for length in shape:
            total *= length  # of Python's integers, which do not overflow
        self.claim(total * dtype.itemsize)
        values = np.empty(shape, dtype)
        if self._file.readinto(values.reshape(-1).view(np.uint8)) < values.nbytes:
            raise _Fault("it has become shorter while it was read")
        return mx.nd.array(values, dtype=dtype)


def _array(reader):
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
    *_, kind = reader.numbers("<iii")  # after the kind and number of the device, which does not matter here
    if kind not in TYPES:
        raise _Fault(f"it holds numbers of type {kind}, expected 0 to {max(TYPES)}")
    return reader.array(TYPES[kind], shape)


def _name(reader):
    (length,) = reader.numbers("<Q")
    if length > MOST_NAME:
        raise _Fault(f"it holds a name of {length} bytes")
    try:
        return reader.take(length).decode("utf-8")
    except UnicodeDecodeError:
        raise _Fault("it holds a name that is no text") from None
