"""Reads NumPy's ``.npy`` and ``.npz`` files by itself, without pickle: arrays of numbers or text that are there.

NumPy's own reader evaluates a header as Python's source, and unpacks what a few bytes of an archive announce.
"""

import io
import math
import re
import zipfile

import numpy as np

from vargfacenet.errors import DataError

MOST_HEADER, MOST_ARRAYS = 1024, 64
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '([<|][fiubUS]\d{1,6})', 'fortran_order': False, 'shape': \(((?:\d{1,12}, ?)*\d{0,12})\),? ?\}\s*"
)


def npy_header(content, where):
    """Type, shape, and where the numbers begin, of the first bytes (`MOST_HEADER` or all) of an ``.npy``.

    Raises
    ------
    DataError
        Naming `where` they are from, for what is no such header, or one of objects, of records or of another order of bytes.
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
        raise DataError(f"{where} is damaged, or no array of numbers or text as NumPy saves it") from None
    return dtype, shape, end


def read_npy(content, where):
    """The array in an ``.npy`` (bytes), which it shares; DataError as of `npy_header`, and where its length is another."""
    dtype, shape, begin = npy_header(content, where)
    size = math.prod(shape) * dtype.itemsize
    if size != len(content) - begin or not dtype.itemsize:
        raise DataError(f"{where} is damaged: it announces {size} bytes of numbers and has {len(content) - begin}")
    return np.frombuffer(content, dtype, math.prod(shape), begin).reshape(shape)


def read_npz(content, where):
    """The arrays in an ``.npz`` (bytes) as ``numpy.savez`` writes it, uncompressed: dict of name to array; DataError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or len(members) > MOST_ARRAYS or sum(member.file_size for member in members) > len(content):
                raise DataError(f"{where} is no archive of arrays: it has {len(members)} parts, packed or too large")
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
        raise DataError(f"{where} is damaged, or no archive of arrays as NumPy saves it") from error
