"""Framing of records in a ``.rec`` file."""

from __future__ import annotations

import os
import pathlib
import struct

from vargfacenet.data.layout import FRAME, MAGIC, MOST_BYTES, MOST_PARTS
from vargfacenet.errors import DataError

_CONTINUATIONS = {1: (2, 3), 2: (2, 3)}  # flags that may follow the first and a middle part of a split record


class RecordFile:
    """A ``.rec`` file, open for reading at any offset from any number of threads; `size` is its length in bytes.

    Raises
    ------
    DataError
        If the file cannot be opened.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        self.size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file; reading afterwards fails."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def payload(self, offset: int, record: str) -> bytes:
        """Return the payload of the record at an offset; its parts are joined.

        Raises
        ------
        DataError
            If the bytes are not a record, naming `record`.
        """
        parts: list[bytes] = []
        expected, total = (0, 1), 0
        while True:
            where = f"{record} at byte {offset}"
            frame = self._bytes(FRAME.size, offset, where)
            if len(frame) < FRAME.size:
                raise DataError(f"{where} is cut: the file ends at byte {self.size}; copy it again")
            magic, packed = FRAME.unpack(frame)
            if magic != MAGIC:
                raise DataError(
                    f"{where} does not start like a record: the offset in the index is wrong, or it is damaged"
                )
            kind, length = packed >> 29, packed & (1 << 29) - 1
            if kind not in expected:
                raise DataError(f"{where} has continuation flag {kind}, expected one of {expected}")
            if offset + FRAME.size + length > self.size:
                raise DataError(
                    f"{where} is cut: it announces {length} bytes, the file ends at byte {self.size}; copy it again"
                )
            total += length
            if total > MOST_BYTES or len(parts) == MOST_PARTS:
                raise DataError(f"{where} announces {total} bytes or more: too large for a face")
            parts.append(self._bytes(length, offset + FRAME.size, where))
            if len(parts[-1]) < length:
                raise DataError(f"{where} is cut: the file has been truncated since it was opened")
            if kind in (0, 3):
                # A record is split where its bytes equal the magic number, which is omitted.
                return struct.pack("<I", MAGIC).join(parts)
            expected = _CONTINUATIONS[kind]
            offset += FRAME.size + (length + 3) // 4 * 4

    def _bytes(self, count: int, offset: int, where: str) -> bytes:
        if self._descriptor is None:
            raise DataError(f"{self.path} is closed")
        try:
            return os.pread(self._descriptor, count, offset) if offset < self.size else b""
        except OSError as error:
            raise DataError(f"{where} cannot be read: {error.strerror}") from error
