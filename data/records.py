"""A reader of training sets that no damaged file can take down; their layout is `vargfacenet.data.layout`'s.

MXNet's own reader aborts the process on damaged bytes, so this one reads the format itself.
"""

import collections
import logging
import os
import struct

import numpy as np

from vargfacenet.data.index_record import divide
from vargfacenet.data.layout import (
    FRAME,
    HEADER,
    MAGIC,
    MOST_BYTES,
    MOST_IDENTITIES,
    MOST_PARTS,
    MOST_RECORDS,
    PROBES,
    identities_by_key,
    is_sealed,
    number_of,
    read_index,
    read_property,
    record_file,
    seal_fault,
)
from vargfacenet.errors import DataError
from vargfacenet.formats.files import fingerprint
from vargfacenet.formats.images import decode_image

log = logging.getLogger(__name__)
_CONTINUATIONS = {1: (2, 3), 2: (2, 3)}  # what may follow the first and a middle part of a split record

Record = collections.namedtuple("Record", "labels image")
Record.__doc__ = "Labels (float32 array, at least one) and the encoded image (bytes, empty where there is none)."


class RecordSet:
    """A training set, open for reading from any number of threads.

    Parameters
    ----------
    path : str or path
        The folder that holds ``train.rec``, ``train.idx`` and ``property``, or the ``.rec`` file itself.
    allow_cut : bool
        Opens a file that ends too early all the same; its lost records fail when they are read.

    Attributes
    ----------
    keys : int64 array
        Keys of the images, ascending.
    identity_keys : int64 array
        Keys of the records that stand for an identity; empty where the set has none.
    num_identities : int
        From ``property``, else from the identity records, else the largest label plus one.
    height, width : int
        From ``property``, else 112 each.
    is_sealed : bool
        Whether the records bear checksums.
    has_split_identities : bool
        Whether identities have several identity records, because the set was packed from a list that was not sorted.

    Raises
    ------
    DataError
        Where a file is missing, the index is no index or of another file, or the record file ends before the index does.
    """

    def __init__(self, path, *, allow_cut=False):
        self.path = record_file(path)
        index_file = self.path.with_suffix(".idx")
        self.is_sealed, self._is_numbered, self._expected, self._tolerant = False, False, None, allow_cut
        self.has_split_identities = self._is_header_wrong = False
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error
        try:
            self._size = os.fstat(self._descriptor).st_size
            keys, offsets = read_index(index_file, self._size)
            self._offsets = dict(zip(keys.tolist(), offsets.tolist()))
            self._open(keys, offsets, index_file, allow_cut)
        except BaseException:
            self.close()
            raise

    def _open(self, keys, offsets, index_file, allow_cut):
        last = int(keys[np.argmax(offsets)])
        if not allow_cut and int(offsets.max()) + FRAME.size > self._size:
            raise DataError(
                f"{self.path} is cut: it ends at byte {self._size}, but {index_file.name} puts record {last} at byte "
                f"{offsets.max()}; copy the file again"
            )
        if not allow_cut:
            self.read(last)
        self.keys, self.identity_keys = self._divide(keys)
        ranges = [] if self.is_sealed else [self._readable(self.read_range, int(key)) for key in self.identity_keys]
        self.num_identities, self.height, self.width = self._properties(ranges)
        if not self.is_sealed:
            probes = self.keys[np.linspace(0, len(self.keys) - 1, min(PROBES, len(self.keys))).astype(int)].tolist()
            numbers = [self._readable(self._number, key) for key in probes]
            self._is_numbered = sum(number == key for number, key in zip(numbers, probes)) > 0.75 * len(probes)
        if len(ranges) and not self.has_split_identities:
            self._expected = identities_by_key(self.keys, ranges, lambda key: self._readable(self._label, key))

    def __len__(self):
        return len(self.keys)

    def __str__(self):
        return str(self.path)

    def close(self):
        """Closes the file; reading afterwards fails."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def fingerprint(self):
        """A digest of the record file and its index (str), see `vargfacenet.formats.files.fingerprint`."""
        return fingerprint([self.path, self.path.with_suffix(".idx")])

    def check_size(self, height, width):
        """DataError where the images are not of this size."""
        if (self.height, self.width) != (height, width):
            raise DataError(
                f"{self.path} holds {self.height}x{self.width} images, networks here take {height}x{width}: align and "
                "pack them anew"
            )

    def read(self, key):
        """The record of a key; DataError, naming it and its offset, where its bytes are no record, or not those that were
        written and it bears a checksum."""
        offset = self._offset(key)
        payload = self._payload(key, offset)
        where = f"{self.path}: record {key} at byte {offset}"
        if len(payload) < HEADER.size:
            raise DataError(f"{where} is too short for a header ({len(payload)} bytes)")
        fault = None
        if is_sealed(payload):
            fault = seal_fault(payload, key)
        elif self.is_sealed:
            fault = "is damaged: it has no checksum, as record 0 has"
        elif self._is_numbered and number_of(payload) != key:
            fault = f"bears the number {number_of(payload)}: it is damaged, or the index is wrong"
        if fault:
            raise DataError(f"{where} {fault}")
        count, label, _, _ = HEADER.unpack_from(payload)
        if count == 0:
            return Record(np.array([label], np.float32), payload[HEADER.size :])
        end = HEADER.size + 4 * count
        if end > len(payload):
            raise DataError(f"{where} announces {count} labels in {len(payload)} bytes")
        return Record(np.frombuffer(payload, np.float32, count, HEADER.size), payload[end:])

    def read_face(self, key):
        """The image and identity of a key.

        Returns
        -------
        image : uint8 array (height, width, 3), RGB
        identity : int, 0 .. num_identities - 1

        Raises
        ------
        DataError
            Where the record is damaged, the image is none or of another form, or the label is out of range or not the one
            that the identity records have.
        """
        record = self.read(key)
        where = f"{self.path}: record {key}"
        label = float(record.labels[0])
        if not (label.is_integer() and 0 <= label < self.num_identities):
            raise DataError(f"{where}: label {label}, expected a whole number in 0..{self.num_identities - 1}")
        expected = -1 if self._expected is None else self._expected[key - int(self.keys[0])]
        if expected not in (-1, label):
            raise DataError(f"{where}: label {label:g}, but it is among the images of identity {expected}")
        return decode_image(record.image, where, shape=(self.height, self.width), plain=True), int(label)

    def read_range(self, key):
        """The two whole numbers of an index or identity record; DataError where it holds none."""
        labels = self.read(key).labels[:2].tolist()
        if len(labels) < 2 or not all(label.is_integer() and 0 <= label <= MOST_RECORDS for label in labels):
            raise DataError(f"{self.path}: record {key} holds {labels}, expected a range of records")
        return int(labels[0]), int(labels[1])

    def _offset(self, key):
        try:
            return self._offsets[key]
        except KeyError:
            raise DataError(f"{self.path}: record {key} is missing in the index") from None

    def _payload(self, key, offset):
        parts, expected, total = [], (0, 1), 0
        while True:
            where = f"{self.path}: record {key} at byte {offset}"
            frame = self._bytes(FRAME.size, offset, where)
            if len(frame) < FRAME.size:
                raise DataError(f"{where} is cut: the file ends at byte {self._size}; copy it again")
            magic, packed = FRAME.unpack(frame)
            if magic != MAGIC:
                raise DataError(f"{where} does not start as a record does: wrong offset in the index, or damaged")
            kind, length = packed >> 29, packed & (1 << 29) - 1
            if kind not in expected:
                raise DataError(f"{where} has continuation flag {kind}, expected one of {expected}")
            if offset + FRAME.size + length > self._size:
                raise DataError(
                    f"{where} is cut: it announces {length} bytes, the file ends at byte {self._size}; copy it again"
                )
            total += length
            if total > MOST_BYTES or len(parts) == MOST_PARTS:
                raise DataError(f"{where} announces {total} bytes or more: it is no face of {self.path.name}")
            parts.append(self._bytes(length, offset + FRAME.size, where))
            if len(parts[-1]) < length:
                raise DataError(f"{where} is cut: the file has become shorter since it was opened")
            if kind in (0, 3):
                # A record is split where its bytes would read as the magic number, which is left out.
                return struct.pack("<I", MAGIC).join(parts)
            expected = _CONTINUATIONS[kind]
            offset += FRAME.size + (length + 3) // 4 * 4

    def _bytes(self, count, offset, where):
        try:
            return os.pread(self._descriptor, count, offset) if offset < self._size else b""
        except OSError as error:
            raise DataError(f"{where} cannot be read: {error.strerror}") from error

    def _divide(self, keys):
        try:
            first = self.read(int(keys[0]))
        except DataError:
            if not self._tolerant:
                raise
            return keys, keys[:0]  # a set whose first record is lost: all are looked at as images
        self.is_sealed = is_sealed(self._payload(int(keys[0]), self._offsets[int(keys[0])]))
        if keys[0] != 0 or len(first.labels) < 2 or first.image:
            return keys, keys[:0]
        found = divide(keys, *self.read_range(0), lambda key: bool(self.read(key).image), self.read_range, self.path)
        self._is_header_wrong = found.is_header_wrong
        return found.keys, found.identity_keys

    def _properties(self, ranges):
        path, announced = self.path.with_name("property"), len(self.identity_keys)
        if not path.exists():
            if announced and not self.is_sealed and self._repeat(ranges):
                self._warn_of_runs(announced, 1 + self._largest_label())
            return 1 + self._largest_label() if self.has_split_identities or not announced else announced, 112, 112
        identities, height, width, images = read_property(path)
        if images not in (None, len(self.keys)):
            log.warning("%s states %d images, %s holds %d", path, images, self.path.name, len(self.keys))
        if announced > identities and not self.is_sealed and self._repeat(ranges):
            self._warn_of_runs(announced, identities)
        elif announced and identities != announced and not self._is_header_wrong:
            raise DataError(
                f"{path} states {identities} identities, record 0 of {self.path.name} announces {announced}"
            )
        return identities, height, width

    def _repeat(self, ranges):
        """True where the first images of two identity records bear one label."""
        labels = [self._readable(self._label, pair[0]) for pair in ranges if pair]
        labels = [label for label in labels if label is not None]
        return len(set(labels)) < len(labels)

    def _warn_of_runs(self, announced, identities):
        self.has_split_identities = True
        log.warning(
            "%s: there are %d identity records for %d identities: the list that it was packed from was not sorted by label, "
            "and identities lie in several places. The labels of the images count; to have one record for each identity, sort "
            "the list by label and pack the set again",
            self.path,
            announced,
            identities,
        )

    def _largest_label(self):
        labels = [self._readable(self._label, key) for key in self.keys.tolist()]
        whole = [int(label) for label in labels if label is not None and label in range(MOST_IDENTITIES)]
        if not whole:
            raise DataError(f"{self.path} has no property file beside it and no label to count identities by")
        return max(whole)

    def _number(self, key):
        return number_of(self._payload(key, self._offset(key)))

    def _label(self, key):
        return float(self.read(key).labels[0])

    @staticmethod
    def _readable(read, key):
        """What `read` gives of a key; None where the record is damaged."""
        try:
            return read(key)
        except DataError:
            return None
