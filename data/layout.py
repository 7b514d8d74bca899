"""Layout of InsightFace's training sets, and the consistency checks that its files allow.

``train.rec`` holds records, ``train.idx`` a line ``key<TAB>offset`` for each, ``property`` the text
``identities,height,width``. If record 0 has a label ``(a, b)`` and no image, records 1..a-1 are images and records
a..b-1 are identity records: each has the range ``(first, last + 1)`` of its images as its label. Other sets hold images
only.

The header of a record ends with two ids, which the lineage's readers ignore. The writer of this package stores the key
of the record in the first, and a tag and a checksum in the second, so that damage is detected. In sets of other writers,
the identity records state the identity of each image a second time, and the first id is usually the key as well.
"""

from __future__ import annotations

import os
import pathlib
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vargfacenet.data.index_record import EXACT
from vargfacenet.errors import DataError
from vargfacenet.formats.content import what_file_it_is, what_it_is, without_bom
from vargfacenet.formats.files import read_bytes

MAGIC = 0xCED7230A
MOST_IDENTITIES = 1 << 24  # labels are float32, which holds whole numbers exactly up to here
MOST_RECORDS = 1 << 31
MOST_BYTES, MOST_PARTS = 16 << 20, 1024  # per record: bytes, and parts that it may be split into
FRAME = struct.Struct("<II")  # magic, then continuation flag (3 bits) and length (29 bits)
HEADER = struct.Struct("<IfQQ")  # number of labels in the payload (0: the next field is the label), label, two ids
CHECKSUM_TAG = 0x56474653  # upper half of the second id if the lower half is a checksum
_SECOND_ID = HEADER.size - 8
PROBES = 32


class Properties(NamedTuple):
    """Content of a ``property`` file; `images` is None if the file does not state it."""

    identities: int
    height: int
    width: int
    images: int | None


def pack(labels: float | Sequence[float], key: int, content: bytes) -> bytes:
    """Return the payload of a record: the header, one or more labels, and the encoded image."""
    if isinstance(labels, (int, float)):
        return HEADER.pack(0, labels, key, 0) + content
    return HEADER.pack(len(labels), 0.0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + content


def add_checksum(payload: bytes, key: int) -> bytes:
    """Store the key and a checksum of a payload in the ids of its header."""
    payload = payload[: _SECOND_ID - 8] + struct.pack("<Q", key) + payload[_SECOND_ID:]
    return payload[:_SECOND_ID] + struct.pack("<II", _crc32(payload), CHECKSUM_TAG) + payload[HEADER.size :]


def has_checksum(payload: bytes) -> bool:
    """Return True if a payload has a checksum."""
    return payload[HEADER.size - 4 : HEADER.size] == struct.pack("<I", CHECKSUM_TAG)


def checksum_fault(payload: bytes, key: int) -> str | None:
    """Return the fault of a payload that has a checksum; None if it is what was written for the key."""
    if payload[_SECOND_ID : _SECOND_ID + 4] != struct.pack("<I", _crc32(payload)):
        return "is damaged: its bytes differ from those that were written"
    number = record_number(payload)
    return None if number == key else f"was written as record {number}: the index is wrong"


def record_number(payload: bytes) -> int:
    """Return the first id in the header of a payload, where packers store the key."""
    return int.from_bytes(payload[_SECOND_ID - 8 : _SECOND_ID], "little")


def _crc32(payload: bytes) -> int:
    view = memoryview(payload)
    return zlib.crc32(view[HEADER.size :], zlib.crc32(view[:_SECOND_ID]))


def record_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """Return the ``.rec`` file of a set given as a folder or as the file; DataError if it does not exist."""
    path = pathlib.Path(path)
    if path.is_file() and path.suffix == ".bin":
        raise DataError(f"{path} is a verification set: pass it to --bins; a training set is a folder with train.rec")
    if path.is_dir() and not (path / "train.rec").exists() and any(one.is_dir() for one in path.iterdir()):
        raise DataError(
            f"{path} holds folders and no train.rec: 'vargfacenet data pack {path} DIR' makes a training set of one folder "
            "of images per identity"
        )
    if path.is_dir():
        path = path / "train.rec"
    elif path.is_file() and path.suffix != ".rec":
        raise DataError(
            f"{path} is not a training set: expected a folder with train.rec, train.idx and property, or a .rec file"
            f"{what_file_it_is(path)}"
        )
    if not path.is_file():
        raise DataError(f"no record file {path}: give a folder with train.rec, train.idx and property")
    return path


def read_index(path: pathlib.Path, record_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the keys, ascending, and offsets of an index (int64 arrays) of a record file of the given size.

    Raises
    ------
    DataError
        If the file is missing, empty, malformed, or larger than such an index can be.
    """
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file; the index belongs next to the record file")
    # A line is shorter than the smallest record.
    content = without_bom(read_bytes(path, limit=2 * record_bytes + (1 << 16)))
    table = None
    if not content.translate(None, b"0123456789 \t\r\n"):
        table = np.fromstring(content.decode("ascii"), np.int64, sep=" ") if content.strip() else np.zeros(0, np.int64)
        table = table.reshape(-1, 2) if len(table) % 2 == 0 else None
    # Numbers too large for 64 bits are read as the largest of them.
    if table is None or (table > 1 << 62).any() or len(np.unique(table[:, 0])) != len(table):
        raise DataError(
            f"{path} is not an index: expected lines of KEY<TAB>OFFSET, whole numbers, each key once{what_it_is(content)}"
        )
    if not len(table):
        raise DataError(f"{path} is empty: it lists no record")
    if len(np.unique(table[:, 1])) != len(table):
        raise DataError(f"{path} has two records at one offset: it is damaged, or belongs to another record file")
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1]


def read_property(path: pathlib.Path) -> Properties:
    """Read a ``property`` file; some packers write the number of images into a second line.

    Raises
    ------
    DataError
        If the file is malformed or a number is out of range.
    """
    text = read_bytes(path, limit=4096).decode("utf-8-sig", errors="replace").strip()
    first, *more = text.splitlines() or [""]
    fields = first.split(",")
    counted = [line.strip() for line in more]
    sane = len(counted) <= 1 and all(len(line) < 12 and line.isdecimal() for line in counted)
    sane = sane and len(fields) == 3 and all(len(field) < 10 and field.strip().isdecimal() for field in fields)
    identities, height, width = map(int, fields) if sane else (0, 0, 0)
    if not (1 <= identities <= MOST_IDENTITIES and 1 <= height <= 4096 and 1 <= width <= 4096):
        raise DataError(f"{path} reads {text[:60]!r}, expected identities,height,width such as 85742,112,112")
    return Properties(identities, height, width, int(counted[0]) if counted else None)


def identities_by_key(
    keys: np.ndarray, ranges: Sequence[tuple[int, int] | None], read_label: Callable[[int], float | None]
) -> np.ndarray | None:
    """Return the identity of each image by the identity records, int64, one per key.

    It is -1 if no identity record, or several, claim the key. The result is None for a set whose identity records are in
    another order than its labels.

    Parameters
    ----------
    keys
        int64, keys of the images, without gaps.
    ranges
        First key and end of the images of each identity record, in order; None for a damaged record.
    read_label
        Returns the label in the record of a key; None if it cannot be read.
    """
    nowhere = int(keys[-1]) + 1
    firsts = np.array([pair[0] if pair else nowhere for pair in ranges])
    ends = np.array([pair[1] if pair else 0 for pair in ranges])
    # If neighbours overlap, one of them is damaged: what both claim remains unknown.
    begins = np.maximum(firsts, np.concatenate([[0], ends[:-1]])).clip(keys[0], nowhere) - keys[0]
    stops = np.minimum(ends, np.concatenate([firsts[1:], [nowhere]])).clip(keys[0], nowhere) - keys[0]
    stops = np.where(ends >= EXACT, begins, stops)  # rounded keys do not identify single images
    table = np.full(len(keys), -1)
    for identity, (begin, stop) in enumerate(zip(begins.tolist(), stops.tolist())):
        table[begin:stop] = identity
    known = np.flatnonzero(table >= 0)
    probes = known[np.linspace(0, len(known) - 1, min(PROBES, len(known))).astype(int)]
    found = [(read_label(int(keys[place])), table[place]) for place in probes]
    agree = sum(label == identity for label, identity in found)
    return table if agree > 0.75 * len(found) else None
