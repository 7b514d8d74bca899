"""Verification sets, ``NAME.bin``: a pickle of encoded pictures, two a pair, and of which pairs are the same person.

A pickle can run any code; these are read by `vargfacenet.eval.byte_pickle`, which runs none. A bit flipped in the list of
truths makes another good set of it: what is written here therefore ends in a checksum, after the pickle, where other
readers do not look.
"""

import collections
import os
import pathlib
import pickle
import zlib

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval import byte_pickle
from vargfacenet.eval.protocols.verification import FOLDS
from vargfacenet.files import atomic_path, read_bytes, read_lines
from vargfacenet.pictures import SUFFIXES, DecoderRemarks, as_face_jpeg, decode_picture, read_picture

CHECKSUM = b"\nvargfacenet crc32 "  # then eight hexadecimal digits, of all that stands before
MOST_PAIRS = 1 << 24  # whose truth may be an array

Pairs = collections.namedtuple("Pairs", "pictures is_same")
Pairs.__doc__ = (
    "Encoded pictures (list of bytes), 2i and 2i + 1 of pair i, and whether they are one person (bool array)."
)


def read_pairs(path):
    """Reads a verification set.

    Parameters
    ----------
    path : str or path
        The ``.bin`` file, written by Python 2 or 3, pictures as bytes or as 1-D uint8 arrays.

    Returns
    -------
    Pairs

    Raises
    ------
    DataError
        Where the file is missing, holds anything else than such a set (none of which is run), is inconsistent, or is not
        what its checksum, where it has one, was made of.
    """
    whole = read_bytes(path)
    try:
        content, end = byte_pickle.load(whole)
        if whole[end:] not in (b"", _checksum(whole[:end])):
            raise DataError("is damaged: what follows its pickle is not the checksum that was written")
    except DataError as error:
        separator = " " if str(error).startswith("is ") else ": "
        raise DataError(f"{path}{separator}{error}") from None
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise DataError(f"{path} is no verification set: expected (pictures, is_same), found {_kind(content)}")
    pictures, is_same = (_listed(part) for part in content)
    if pictures is None or is_same is None:
        raise DataError(f"{path} is no verification set: expected two lists, found {' and '.join(map(_kind, content))}")
    if len(pictures) != 2 * len(is_same) or not is_same:
        raise DataError(f"{path} holds {len(pictures)} pictures for {len(is_same)} pairs, expected two a pair")
    pictures = [_encoded(picture, index, path) for index, picture in enumerate(pictures)]
    if not all(isinstance(same, int) and same in (0, 1) for same in is_same):
        raise DataError(f"{path}: expected true or false for each pair")
    return Pairs(pictures, np.array(is_same, dtype=bool))


def read_sets(paths):
    """Reads verification sets for the protocol: dict of a file's stem to `Pairs`.

    Raises
    ------
    DataError
        As `read_pairs`, and where two files have the same stem or one has fewer pairs than the protocol has folds.
    """
    sets = {}
    for path in map(pathlib.Path, paths):
        if path.stem in sets:
            raise DataError(f"two verification sets are called {path.stem}; rename one, or name those to use by --bins")
        pairs = sets[path.stem] = read_pairs(path)
        if len(pairs.is_same) < FOLDS:
            raise DataError(f"{path} holds {len(pairs.is_same)} pairs, too few: the protocol has {FOLDS} folds")
    return sets


def write_pairs(path, pictures, is_same):
    """Writes a verification set as the lineage does; whole or not at all.

    Parameters
    ----------
    path : str or path
        The ``.bin`` file.
    pictures : sequence of bytes
        Encoded pictures, two a pair.
    is_same : sequence of bool
        The truth of each pair.
    """
    content = ([bytes(picture) for picture in pictures], [bool(same) for same in is_same])
    if len(content[0]) != 2 * len(content[1]):
        raise DataError(f"{len(content[0])} pictures for {len(content[1])} pairs, expected two a pair")
    with atomic_path(path) as temporary:
        # Protocol 2 is the newest that Python 2 reads.
        pickled = pickle.dumps(content, protocol=2)
        temporary.write_bytes(pickled + _checksum(pickled))


def pairs_from_folder(images, pairs_file, *, resize=False):
    """Pairs of a folder per person, listed as in LFW's ``pairs.txt``.

    Its first line holds the number of folds and of pairs a kind in each (or the latter alone); then a line
    ``NAME i j`` is a pair of one person and ``NAME1 i NAME2 j`` one of two; picture i of NAME is
    ``NAME/NAME_%04d.jpg``, or ``.png``. With `resize`, pictures of another size are scaled to 112x112.

    Returns
    -------
    Pairs

    Raises
    ------
    DataError
        Naming the line, for what is no pair or a picture that is missing or none.
    """
    images = pathlib.Path(images)
    if not images.is_dir():
        raise DataError(f"no folder of images {images}")
    pictures, is_same = [], []
    for number, line in read_lines(pairs_file):
        where, fields = f"{pairs_file}: line {number}", line.split()
        if not fields or (number == 1 and len(fields) <= 2 and all(field.isdecimal() for field in fields)):
            continue
        if len(fields) == 3:
            fields = [fields[0], fields[1], fields[0], fields[2]]
            is_same.append(True)
        elif len(fields) == 4:
            is_same.append(False)
        else:
            raise DataError(f"{where} reads {line.strip()[:60]!r}, expected NAME i j or NAME1 i NAME2 j")
        for name, picture in (fields[:2], fields[2:]):
            path = _person_picture(images, name, picture, where)
            pictures.append(as_face_jpeg(read_picture(path), str(path), resize=resize))
    if not is_same:
        raise DataError(f"{pairs_file} lists no pair")
    return Pairs(pictures, np.array(is_same))


def _checksum(content):
    return CHECKSUM + b"%08x\n" % zlib.crc32(content)


def check_pairs(pairs):
    """The pictures of a set that cannot be used: list of (number of the picture, reason)."""
    bad, hearing = [], DecoderRemarks()
    for index, encoded in enumerate(pairs.pictures):
        try:
            _, remark = hearing.listen(decode_picture, encoded, "picture")
        except DataError as error:
            remark = str(error)
        if remark:
            bad.append((index, remark))
    return bad


def _person_picture(images, name, number, where):
    if not (number.isdecimal() and len(number) < 10):
        raise DataError(f"{where}: picture {number!r} of {name}, expected a whole number")
    stem = str(images / name / f"{name}_{int(number):04d}")
    for suffix in SUFFIXES:
        path = stem + suffix
        if os.path.isfile(path):  # also of names that no file can have
            return pathlib.Path(path)
    raise DataError(f"{where}: no picture {stem}.jpg (or .png)")


def _listed(part):
    if isinstance(part, byte_pickle.ByteArray):
        is_sane = part.values is not None and len(part.values) <= MOST_PAIRS
        return part.values.tolist() if is_sane else None
    return list(part) if isinstance(part, (list, tuple)) else None


def _encoded(picture, index, path):
    if isinstance(picture, byte_pickle.ByteArray) and picture.values is not None:
        # The bytes it was made of, shared by all that refer to them.
        return picture.values.base
    if isinstance(picture, bytes):
        return picture
    raise DataError(f"{path}: picture {index} is {_kind(picture)}, expected bytes or an array of them")


def _kind(value):
    size = f" of {len(value)}" if isinstance(value, (list, tuple, bytes, str)) else ""
    return f"{type(value).__name__.lower()}{size}"
