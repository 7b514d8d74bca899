"""Reader of training sets that reports damaged files as errors; for the layout see `vargfacenet.data.layout`.

It parses the format itself, because MXNet's reader aborts the process on damaged bytes.
"""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vargfacenet.data.framing import RecordFile
from vargfacenet.data.index_record import divide
from vargfacenet.data.layout import (
    FRAME,
    HEADER,
    MOST_IDENTITIES,
    MOST_RECORDS,
    PROBES,
    checksum_fault,
    has_checksum,
    identities_by_key,
    read_index,
    read_property,
    record_file,
    record_number,
)
from vargfacenet.errors import DataError
from vargfacenet.formats.files import fingerprint
from vargfacenet.formats.images import decode_image

log = logging.getLogger(__name__)
_Value = TypeVar("_Value")


class Record(NamedTuple):
    """Content of a record."""

    labels: np.ndarray  # float32, at least one
    image: bytes  # encoded; empty if there is none


class RecordSet:
    """A training set, open for reading from any number of threads.

    Parameters
    ----------
    path
        Folder that holds ``train.rec``, ``train.idx`` and ``property``, or the ``.rec`` file itself.
    allow_cut
        Open a truncated file as well; its lost records fail when they are read.

    Attributes
    ----------
    keys
        int64, keys of the images, ascending.
    identity_keys
        int64, keys of the identity records; empty if the set has none.
    num_identities
        From ``property``; otherwise from the identity records; otherwise the largest label plus one.
    height, width
        From ``property``; otherwise 112 each.
    has_checksums
        True if the records have checksums.
    has_split_identities
        True if identities have several identity records, because the set was packed from an unsorted list.

    Raises
    ------
    DataError
        If a file is missing, the index is malformed or belongs to another file, or the record file is truncated.
    """

    def __init__(self, path: str | os.PathLike[str], *, allow_cut: bool = False) -> None:
        self.path = record_file(path)
        index_file = self.path.with_suffix(".idx")
        self.has_checksums, self._is_numbered, self._tolerant = False, False, allow_cut
        self._expected: np.ndarray | None = None
        self.has_split_identities = self._is_header_wrong = False
        self._file = RecordFile(self.path)
        try:
            keys, offsets = read_index(index_file, self._file.size)
            self._sorted_keys, self._offsets = np.ascontiguousarray(keys), np.ascontiguousarray(offsets)
            self._open(keys, offsets, index_file, allow_cut)
        except BaseException:
            self.close()
            raise

    def _open(self, keys: np.ndarray, offsets: np.ndarray, index_file: pathlib.Path, allow_cut: bool) -> None:
        last = int(keys[np.argmax(offsets)])
        if not allow_cut and int(offsets.max()) + FRAME.size > self._file.size:
            raise DataError(
                f"{self.path} is cut: it ends at byte {self._file.size}, but {index_file.name} puts record {last} at byte "
                f"{offsets.max()}; copy the file again"
            )
        if not allow_cut:
            self.read(last)
        self.keys, self.identity_keys = self._divide(keys)
        ranges: list[tuple[int, int] | None] = []
        if not self.has_checksums:
            ranges = [self._readable(self.read_range, int(key)) for key in self.identity_keys]
        self.num_identities, self.height, self.width = self._properties(ranges)
        if not self.has_checksums:
            probes = self.keys[np.linspace(0, len(self.keys) - 1, min(PROBES, len(self.keys))).astype(int)].tolist()
            numbers = [self._readable(self._number, key) for key in probes]
            self._is_numbered = sum(number == key for number, key in zip(numbers, probes)) > 0.75 * len(probes)
        if len(ranges) and not self.has_split_identities:
            self._expected = identities_by_key(self.keys, ranges, lambda key: self._readable(self._label, key))

    def __len__(self) -> int:
        return len(self.keys)

    def __str__(self) -> str:
        return str(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Another process opens the file again, and need not read the index.
        vars(self).update(state)
        self._file = RecordFile(self.path)

    def close(self) -> None:
        """Close the file; reading afterwards fails."""
        self._file.close()

    def fingerprint(self) -> str:
        """Return the fingerprint of the record file and its index, see `vargfacenet.formats.files.fingerprint`."""
        return fingerprint([self.path, self.path.with_suffix(".idx")])

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError if the images have another size."""
        if (self.height, self.width) != (height, width):
            raise DataError(
                f"{self.path} holds {self.height}x{self.width} images, networks here take {height}x{width}: align and "
                "pack them again"
            )

    def read(self, key: int) -> Record:
        """Read the record of a key.

        Raises
        ------
        DataError
            If the bytes are not a record or do not match their checksum, naming the key and its offset.
        """
        offset = self._offset(key)
        payload = self._payload(key)
        where = f"{self.path}: record {key} at byte {offset}"
        if len(payload) < HEADER.size:
            raise DataError(f"{where} is too short for a header ({len(payload)} bytes)")
        fault = None
        if has_checksum(payload):
            fault = checksum_fault(payload, key)
        elif self.has_checksums:
            fault = "is damaged: it has no checksum, but record 0 has one"
        elif self._is_numbered and record_number(payload) != key:
            fault = f"has the number {record_number(payload)}: it is damaged, or the index is wrong"
        if fault:
            raise DataError(f"{where} {fault}")
        count, label, _, _ = HEADER.unpack_from(payload)
        if count == 0:
            return Record(np.array([label], np.float32), payload[HEADER.size :])
        end = HEADER.size + 4 * count
        if end > len(payload):
            raise DataError(f"{where} announces {count} labels in {len(payload)} bytes")
        return Record(np.frombuffer(payload, np.float32, count, HEADER.size), payload[end:])

    def read_face(self, key: int) -> tuple[np.ndarray, int]:
        """Read the image, uint8 (height, width, 3), RGB, and the identity, 0 .. num_identities - 1, of a key.

        Raises
        ------
        DataError
            If the record is damaged, the image cannot be decoded or has another size, or the label is out of range or
            contradicts the identity records.
        """
        record = self.read(key)
        where = f"{self.path}: record {key}"
        label = float(record.labels[0])
        if not (label.is_integer() and 0 <= label < self.num_identities):
            raise DataError(f"{where}: label {label}, expected a whole number in 0..{self.num_identities - 1}")
        expected = -1 if self._expected is None else self._expected[key - int(self.keys[0])]
        if expected not in (-1, label):
            raise DataError(f"{where}: label {label:g}, but it is one of the images of identity {expected}")
        return decode_image(record.image, where, shape=(self.height, self.width), plain=True), int(label)

    def read_range(self, key: int) -> tuple[int, int]:
        """Read the two whole numbers of an index or identity record; DataError if it does not hold them."""
        labels = self.read(key).labels[:2].tolist()
        if len(labels) < 2 or not all(label.is_integer() and 0 <= label <= MOST_RECORDS for label in labels):
            raise DataError(f"{self.path}: record {key} holds {labels}, expected a range of records")
        return int(labels[0]), int(labels[1])

    def _offset(self, key: int) -> int:
        place = int(np.searchsorted(self._sorted_keys, key))
        if place == len(self._sorted_keys) or self._sorted_keys[place] != key:
            raise DataError(f"{self.path}: record {key} is missing from the index")
        return int(self._offsets[place])

    def _payload(self, key: int) -> bytes:
        return self._file.payload(self._offset(key), f"{self.path}: record {key}")

    def _divide(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            first = self.read(int(keys[0]))
        except DataError:
            if not self._tolerant:
                raise
            return keys, keys[:0]  # a set whose first record is lost: all records count as images
        self.has_checksums = has_checksum(self._payload(int(keys[0])))
        if keys[0] != 0 or len(first.labels) < 2 or first.image:
            return keys, keys[:0]
        found = divide(keys, *self.read_range(0), lambda key: bool(self.read(key).image), self.read_range, self.path)
        self._is_header_wrong = found.is_header_wrong
        return found.keys, found.identity_keys

    def _properties(self, ranges: Sequence[tuple[int, int] | None]) -> tuple[int, int, int]:
        path, announced = self.path.with_name("property"), len(self.identity_keys)
        if not path.exists():
            if announced and not self.has_checksums and self._repeat(ranges):
                self._warn_of_runs(announced, 1 + self._largest_label())
            return 1 + self._largest_label() if self.has_split_identities or not announced else announced, 112, 112
        identities, height, width, images = read_property(path)
        if images not in (None, len(self.keys)):
            log.warning("%s states %d images, %s holds %d", path, images, self.path.name, len(self.keys))
        if announced > identities and not self.has_checksums and self._repeat(ranges):
            self._warn_of_runs(announced, identities)
        elif announced and identities != announced and not self._is_header_wrong:
            raise DataError(
                f"{path} states {identities} identities, record 0 of {self.path.name} announces {announced}"
            )
        return identities, height, width

    def _repeat(self, ranges: Sequence[tuple[int, int] | None]) -> bool:
        """Return True if the first images of two identity records have the same label."""
        labels = [self._readable(self._label, pair[0]) for pair in ranges if pair]
        labels = [label for label in labels if label is not None]
        return len(set(labels)) < len(labels)

    def _warn_of_runs(self, announced: int, identities: int) -> None:
        self.has_split_identities = True
        log.warning(
            "%s: there are %d identity records for %d identities, because the list that it was packed from was not sorted by "
            "label. The labels of the images are used; to have one record for each identity, sort the list by label and pack "
            "the set again",
            self.path,
            announced,
            identities,
        )

    def _largest_label(self) -> int:
        labels = [self._readable(self._label, key) for key in self.keys.tolist()]
        whole = [int(label) for label in labels if label is not None and label in range(MOST_IDENTITIES)]
        if not whole:
            raise DataError(f"{self.path} has neither a property file nor a label to count identities by")
        return max(whole)

    def _number(self, key: int) -> int:
        return record_number(self._payload(key))

    def _label(self, key: int) -> float:
        return float(self.read(key).labels[0])

    @staticmethod
    def _readable(read: Callable[[int], _Value], key: int) -> _Value | None:
        """Return ``read(key)``, or None if the record is damaged."""
        try:
            return read(key)
        except DataError:
            return None
