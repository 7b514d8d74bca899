"""The layout of InsightFace's training sets, and the checks that its files themselves allow.

``train.rec`` holds records, ``train.idx`` a line ``key<TAB>offset`` for each, ``property`` the text
``identities,height,width``. Where record 0 carries a label ``(a, b)`` and no image, records 1..a-1 are images and
records a..b-1 stand for one identity each, labelled ``(first, last + 1)`` of its images. Some sets lack all of
that and hold images only.

The header of a record ends in two ids, which the lineage's readers pass over. The writer here puts the record's key
in the first and a checksum, under a mark, in the second: what was written so is known to be damaged when it is. In other
sets, the identity records say once more which identity an image is of, and mostly the first id is the key too.
"""

import pathlib
import struct
import zlib

import numpy as np

from vargfacenet.data.index_record import EXACT
from vargfacenet.errors import DataError
from vargfacenet.formats.files import read_bytes

MAGIC = 0xCED7230A
MOST_IDENTITIES = 1 << 24  # labels are float32, which holds whole numbers exactly up to here
MOST_RECORDS = 1 << 31
MOST_BYTES, MOST_PARTS = 16 << 20, 1024  # of a record, and of the parts it may be split into
FRAME = struct.Struct("<II")  # magic, then continuation flag (3 bits) and length (29 bits)
HEADER = struct.Struct("<IfQQ")  # number of labels in the payload (0: the next field is the label), label, two ids
MARK = 0x56474653  # upper half of the second id where the lower one is a checksum
_SECOND_ID = HEADER.size - 8
PROBES = 32


def pack(labels, key, content):
    """A record's payload (bytes): the header, `labels` (a number, or several) and the encoded image (bytes)."""
    if isinstance(labels, (int, float)):
        return HEADER.pack(0, labels, key, 0) + content
    return HEADER.pack(len(labels), 0.0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + content


def seal(payload, key):
    """A record's payload (bytes) with its key and checksum in the header's ids."""
    payload = payload[: _SECOND_ID - 8] + struct.pack("<Q", key) + payload[_SECOND_ID:]
    return payload[:_SECOND_ID] + struct.pack("<II", _sum(payload), MARK) + payload[HEADER.size :]


def is_sealed(payload):
    """Whether a record's payload bears a checksum (bool)."""
    return payload[HEADER.size - 4 : HEADER.size] == struct.pack("<I", MARK)


def seal_fault(payload, key):
    """What is wrong with a payload that bears a checksum (str); None where it is the one of its key that was written."""
    if payload[_SECOND_ID : _SECOND_ID + 4] != struct.pack("<I", _sum(payload)):
        return "is damaged: its bytes are not those that were written"
    number = number_of(payload)
    return None if number == key else f"was written as record {number}: the index is wrong"


def number_of(payload):
    """The first id in a payload's header, where packers put the record's key (int)."""
    return int.from_bytes(payload[_SECOND_ID - 8 : _SECOND_ID], "little")


def _sum(payload):
    payload = memoryview(payload)
    return zlib.crc32(payload[HEADER.size :], zlib.crc32(payload[:_SECOND_ID]))


def record_file(path):
    """The ``.rec`` file of a set given as a folder or as the file; DataError where there is none."""
    path = pathlib.Path(path)
    if path.is_file() and path.suffix == ".bin":
        raise DataError(f"{path} is a verification set: give it to --bins; a training set is a folder with train.rec")
    if path.is_dir() and not (path / "train.rec").exists() and any(one.is_dir() for one in path.iterdir()):
        raise DataError(
            f"{path} holds folders and no train.rec: a folder of images for each identity becomes a training set by "
            f"'vargfacenet data pack {path} DIR'"
        )
    if path.is_dir():
        path = path / "train.rec"
    if not path.is_file():
        raise DataError(f"no record file {path}: give a folder with train.rec, train.idx and property")
    return path


def read_index(path, record_bytes):
    """Keys, ascending, and offsets of an index (int64 arrays); DataError where it is none of a file of that size."""
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file; the index belongs beside the record file")
    # A line is shorter than the smallest record.
    content = read_bytes(path, limit=2 * record_bytes + (1 << 16))
    table = None
    if not content.translate(None, b"0123456789 \t\r\n"):
        table = np.fromstring(content.decode("ascii"), np.int64, sep=" ") if content.strip() else np.zeros(0, np.int64)
        table = table.reshape(-1, 2) if len(table) % 2 == 0 else None
    # Numbers too large for 64 bits are read as the largest of them.
    if table is None or (table > 1 << 62).any() or len(np.unique(table[:, 0])) != len(table):
        raise DataError(f"{path} is no index: expected lines of KEY<TAB>OFFSET, whole numbers, each key once")
    if not len(table):
        raise DataError(f"{path} is empty: it lists no record")
    if len(np.unique(table[:, 1])) != len(table):
        raise DataError(f"{path} puts two records at one offset: it is damaged, or not of this record file")
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1]


def read_property(path):
    """Identities, height, width and images (None where it does not say) that a ``property`` file states.

    Some packers write the number of images into a second line. DataError where the file is none.
    """
    text = read_bytes(path, limit=4096).decode("utf-8", errors="replace").strip()
    first, *more = text.splitlines() or [""]
    fields = first.split(",")
    counted = [line.strip() for line in more]
    sane = len(counted) <= 1 and all(len(line) < 12 and line.isdecimal() for line in counted)
    sane = sane and len(fields) == 3 and all(len(field) < 10 and field.strip().isdecimal() for field in fields)
    identities, height, width = map(int, fields) if sane else (0, 0, 0)
    if not (1 <= identities <= MOST_IDENTITIES and 1 <= height <= 4096 and 1 <= width <= 4096):
        raise DataError(f"{path} reads {text[:60]!r}, expected identities,height,width such as 85742,112,112")
    return identities, height, width, int(counted[0]) if counted else None


def identities_by_key(keys, ranges, read_label):
    """Which identity each image is of, as the identity records have it.

    Parameters
    ----------
    keys : int64 array
        Of the images, without gaps.
    ranges : list of (int, int) or None
        Of each identity record, in order, the first key of its images and that after the last; None for a damaged one.
    read_label : callable
        The label that the record of a key bears; None where it cannot be read.

    Returns
    -------
    int64 array
        For each key; -1 where the records say nothing, or contradict one another. None for a set whose identity records
        are in another order than its labels.
    """
    nowhere = int(keys[-1]) + 1
    firsts = np.array([pair[0] if pair else nowhere for pair in ranges])
    ends = np.array([pair[1] if pair else 0 for pair in ranges])
    # Where neighbours overlap, one of them is damaged: what both claim is left open.
    begins = np.maximum(firsts, np.concatenate([[0], ends[:-1]])).clip(keys[0], nowhere) - keys[0]
    stops = np.minimum(ends, np.concatenate([firsts[1:], [nowhere]])).clip(keys[0], nowhere) - keys[0]
    stops = np.where(ends >= EXACT, begins, stops)  # what is rounded says nothing of single images
    table = np.full(len(keys), -1)
    for identity, (begin, stop) in enumerate(zip(begins.tolist(), stops.tolist())):
        table[begin:stop] = identity
    known = np.flatnonzero(table >= 0)
    probes = known[np.linspace(0, len(known) - 1, min(PROBES, len(known))).astype(int)]
    found = [(read_label(int(keys[place])), table[place]) for place in probes]
    agree = sum(label == identity for label, identity in found)
    return table if agree > 0.75 * len(found) else None
