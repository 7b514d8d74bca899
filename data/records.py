"""InsightFace's RecordIO training sets: their layout, and a reader that no damaged file can take down.

``train.rec`` holds records, ``train.idx`` a line ``key<TAB>offset`` for each, ``property`` the text
``identities,height,width``. Where record 0 carries a label ``(a, b)`` and no picture, records 1..a-1 are pictures and
records a..b-1 stand for one identity each, labelled ``(first, last + 1)`` of its pictures. Some sets lack all of
that and hold pictures only.

MXNet's own reader aborts the process on damaged bytes, so this one reads the format itself.
"""

import collections
import os
import pathlib
import struct

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.files import fingerprint, read_bytes
from vargfacenet.pictures import decode_picture

MAGIC = 0xCED7230A
MOST_IDENTITIES = 1 << 24  # labels are float32, which holds whole numbers exactly up to here
FRAME = struct.Struct("<II")  # magic, then continuation flag (3 bits) and length (29 bits)
HEADER = struct.Struct("<IfQQ")  # number of labels in the payload (0: the next field is the label), label, two ids
_CONTINUATIONS = {1: (2, 3), 2: (2, 3)}  # what may follow the first and a middle part of a split record

Record = collections.namedtuple("Record", "labels picture")
Record.__doc__ = "Labels (float32 array, at least one) and the encoded picture (bytes, empty where there is none)."


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
        Keys of the pictures, ascending.
    identity_keys : int64 array
        Keys of the records that stand for an identity; empty where the set has none.
    num_identities : int
        From ``property``, else from the identity records, else the largest label plus one.
    height, width : int
        From ``property``, else 112 each.

    Raises
    ------
    DataError
        Where a file is missing, the index is no index, or the record file ends before the index does.
    """

    def __init__(self, path, *, allow_cut=False):
        self.path = record_file(path)
        index_file = self.path.with_suffix(".idx")
        keys, offsets = _read_index(index_file)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error
        self._size = os.fstat(self._descriptor).st_size
        self._offsets = dict(zip(keys.tolist(), offsets.tolist()))
        self._tolerant = allow_cut
        try:
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
        self.num_identities, self.height, self.width = self._properties()

    def __len__(self):
        return len(self.keys)

    def close(self):
        """Closes the file; reading afterwards fails."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def fingerprint(self):
        """A digest of the record file and its index (str), see `vargfacenet.files.fingerprint`."""
        return fingerprint([self.path, self.path.with_suffix(".idx")])

    def check_size(self, height, width):
        """DataError where the pictures are not of this size."""
        if (self.height, self.width) != (height, width):
            raise DataError(
                f"{self.path} holds {self.height}x{self.width} pictures, networks here take {height}x{width}: align and "
                "pack them anew"
            )

    def read(self, key):
        """The record of a key; DataError, naming it and its offset, where its bytes are no record."""
        offset = self._offsets[key]
        payload = self._payload(key, offset)
        where = f"{self.path}: record {key} at byte {offset}"
        if len(payload) < HEADER.size:
            raise DataError(f"{where} is too short for a header ({len(payload)} bytes)")
        count, label, _, _ = HEADER.unpack_from(payload)
        if count == 0:
            return Record(np.array([label], np.float32), payload[HEADER.size :])
        end = HEADER.size + 4 * count
        if end > len(payload):
            raise DataError(f"{where} announces {count} labels in {len(payload)} bytes")
        return Record(np.frombuffer(payload, np.float32, count, HEADER.size), payload[end:])

    def read_face(self, key):
        """The picture and identity of a key.

        Returns
        -------
        picture : uint8 array (height, width, 3), RGB
        identity : int, 0 .. num_identities - 1

        Raises
        ------
        DataError
            Where the record is damaged, the picture is none or of another size, or the label is out of range.
        """
        record = self.read(key)
        where = f"{self.path}: record {key}"
        picture = decode_picture(record.picture, where, shape=(self.height, self.width))
        label = float(record.labels[0])
        if not (label.is_integer() and 0 <= label < self.num_identities):
            raise DataError(f"{where}: label {label}, expected a whole number in 0..{self.num_identities - 1}")
        return picture, int(label)

    def read_range(self, key):
        """The two whole numbers of an index or identity record; DataError where it holds none."""
        labels = self.read(key).labels[:2].tolist()
        if len(labels) < 2 or not all(label.is_integer() for label in labels):
            raise DataError(f"{self.path}: record {key} holds {labels}, expected a range of records")
        return int(labels[0]), int(labels[1])

    def _payload(self, key, offset):
        parts, expected = [], (0, 1)
        while True:
            where = f"{self.path}: record {key} at byte {offset}"
            frame = os.pread(self._descriptor, FRAME.size, offset) if offset < self._size else b""
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
            parts.append(os.pread(self._descriptor, length, offset + FRAME.size))
            if kind in (0, 3):
                # A record is split where its bytes would read as the magic number, which is left out.
                return struct.pack("<I", MAGIC).join(parts)
            expected = _CONTINUATIONS[kind]
            offset += FRAME.size + (length + 3) // 4 * 4

    def _divide(self, keys):
        try:
            first = self.read(int(keys[0]))
        except DataError:
            if not self._tolerant:
                raise
            return keys, keys[:0]  # a set whose first record is lost: all are looked at as pictures
        if keys[0] != 0 or len(first.labels) < 2 or first.picture:
            return keys, keys[:0]
        begin, end = self.read_range(0)
        if not 1 <= begin <= end:
            raise DataError(
                f"{self.path}: record 0 announces identity records {begin}..{end - 1}; it is no index record"
            )
        pictures = keys[(keys > 0) & (keys < begin)]
        identities = keys[(keys >= begin) & (keys < end)]
        if len(pictures) != begin - 1 or len(identities) != end - begin:
            raise DataError(
                f"{self.path}: record 0 announces {begin - 1} pictures and {end - begin} identities, the index lists "
                f"{len(pictures)} and {len(identities)}; the index is not of this file"
            )
        return pictures, identities

    def _properties(self):
        path = self.path.with_name("property")
        if not path.exists():
            return len(self.identity_keys) or 1 + self._largest_label(), 112, 112
        text = read_bytes(path).decode("utf-8", errors="replace").strip()
        try:
            identities, height, width = (int(number) for number in text.split(","))
        except ValueError:
            identities = height = width = 0
        if not (1 <= identities <= MOST_IDENTITIES and 1 <= height <= 4096 and 1 <= width <= 4096):
            raise DataError(f"{path} reads {text[:60]!r}, expected identities,height,width such as 85742,112,112")
        return identities, height, width

    def _largest_label(self):
        labels = [float(self.read(int(key)).labels[0]) for key in self.keys]
        whole = [int(label) for label in labels if label.is_integer() and 0 <= label < MOST_IDENTITIES]
        if not whole:
            raise DataError(f"{self.path} has no property file beside it and no label to count identities by")
        return max(whole)


def record_file(path):
    """The ``.rec`` file of a set given as a folder or as the file; DataError where there is none."""
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "train.rec"
    if not path.is_file():
        raise DataError(f"no record file {path}: give a folder with train.rec, train.idx and property")
    return path


def _read_index(path):
    try:
        text = path.read_text()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; the index belongs beside the record file") from error
    except UnicodeDecodeError:
        raise DataError(f"{path} is no index: expected lines of KEY<TAB>OFFSET") from None
    try:
        table = np.array(text.split(), dtype=np.int64).reshape(-1, 2)
    except (ValueError, OverflowError):
        table = None
    if table is None or (table < 0).any() or len(np.unique(table[:, 0])) != len(table):
        raise DataError(f"{path} is no index: expected lines of KEY<TAB>OFFSET, whole numbers, each key once")
    if not len(table):
        raise DataError(f"{path} is empty: it lists no record")
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1]
