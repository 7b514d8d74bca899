"""Verification sets, ``NAME.bin``: a pickle of encoded images, two a pair, and of which pairs are the same person.

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
from vargfacenet.formats.files import atomic_path, read_bytes, read_lines
from vargfacenet.formats.images import SUFFIXES, DecoderWarnings, as_face_jpeg, decode_image, read_image

MOST_BYTES = 4 << 30  # of a set
CHECKSUM = b"\nvargfacenet crc32 "  # then eight hexadecimal digits, of all that stands before
MOST_PAIRS = 1 << 24  # whose truth may be an array

Pairs = collections.namedtuple("Pairs", "images is_same")
Pairs.__doc__ = "Encoded images (list of bytes), 2i and 2i + 1 of pair i, and whether they are one person (bool array)."


def read_pairs(path):
    """Reads a verification set.

    Parameters
    ----------
    path : str or path
        The ``.bin`` file, written by Python 2 or 3, images as bytes or as uint8 arrays of one row or column.

    Returns
    -------
    Pairs

    Raises
    ------
    DataError
        Where the file is missing, holds anything else than such a set (none of which is run), is inconsistent, or is not
        what its checksum, where it has one, was made of.
    """
    if pathlib.Path(path).suffix in (".rec", ".idx"):
        raise DataError(f"{path} is of a training set, which --data takes; a verification set is a .bin file")
    whole = read_bytes(path, limit=MOST_BYTES)
    try:
        content, end = byte_pickle.load(whole)
        if whole[end:] not in (b"", _checksum(whole[:end])):
            raise DataError("is damaged: what follows its pickle is not the checksum that was written")
    except DataError as error:
        separator = " " if str(error).startswith("is ") else ": "
        raise DataError(f"{path}{separator}{error}") from None
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise DataError(f"{path} is no verification set: expected (images, is_same), found {_kind(content)}")
    images, is_same = (_listed(part) for part in content)
    if images is None or is_same is None:
        raise DataError(f"{path} is no verification set: expected two lists, found {' and '.join(map(_kind, content))}")
    if len(images) != 2 * len(is_same) or not is_same:
        raise DataError(f"{path} holds {len(images)} images for {len(is_same)} pairs, expected two a pair")
    images = [_encoded(image, index, path) for index, image in enumerate(images)]
    if not all(isinstance(same, (int, float)) and same in (0, 1) for same in is_same):
        raise DataError(f"{path}: expected true or false, or 1 or 0, for each pair")
    return Pairs(images, np.array(is_same, dtype=bool))


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


def write_pairs(path, images, is_same):
    """Writes a verification set as the lineage does; whole or not at all.

    Parameters
    ----------
    path : str or path
        The ``.bin`` file.
    images : sequence of bytes
        Encoded images, two a pair.
    is_same : sequence of bool
        The truth of each pair.
    """
    content = ([bytes(image) for image in images], [bool(same) for same in is_same])
    if len(content[0]) != 2 * len(content[1]):
        raise DataError(f"{len(content[0])} images for {len(content[1])} pairs, expected two a pair")
    with atomic_path(path) as temporary:
        # Protocol 2 is the newest that Python 2 reads.
        pickled = pickle.dumps(content, protocol=2)
        temporary.write_bytes(pickled + _checksum(pickled))


def pairs_from_folder(folder, pairs_file, *, resize=False):
    """A verification set of the images of a folder, in pairs that a file lists, see `list_pairs`.

    With `resize`, images of another size are scaled to 112x112.

    Returns
    -------
    Pairs

    Raises
    ------
    DataError
        Naming the line, for what is no pair, or an image that is missing, none or of another size.
    """
    encoded, images, listed = {}, [], list_pairs(folder, pairs_file)
    for pair in listed:
        for path in pair.paths:
            if path not in encoded:
                encoded[path] = as_face_jpeg(read_image(path), f"{pair.where}: {path}", resize=resize)
            images.append(encoded[path])
    return Pairs(images, np.array([pair.is_same for pair in listed]))


ListedPair = collections.namedtuple("ListedPair", "paths is_same where")
ListedPair.__doc__ = "Two images (paths), whether they show one person, and the file and line that says so."


def list_pairs(folder, pairs_file):
    """The pairs that a file lists of the images in a folder.

    A line is one of, in any mixture, with blanks, tabs or commas between:

    - ``PATH1 PATH2 1`` for a pair of one person and ``PATH1 PATH2 0`` for one of two, paths below the folder; a first line
      that ends in ``label`` or ``same`` is a header;
    - as in LFW's ``pairs.txt``, ``NAME i j`` for one person and ``NAME1 i NAME2 j`` for two, where image i of NAME is
      ``NAME/NAME_%04d.jpg``, or ``.png``. Its first line holds the number of folds and of pairs a kind in each (or the latter
      alone), and must be right.

    Parameters
    ----------
    folder : str or path
        The folder.
    pairs_file : str or path
        The list.

    Returns
    -------
    list of ListedPair
        In the order of the file, which is that of the folds.

    Raises
    ------
    DataError
        Naming the line, for what is no pair or an image that is missing.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder of images {folder}")
    pairs, announced = [], None
    for number, line in read_lines(pairs_file):
        where, fields = f"{pairs_file}: line {number}", _fields(line)
        if not fields:
            continue
        if number == 1 and len(fields) <= 2 and all(field.isdecimal() for field in fields):
            announced = 2 * int(np.prod([int(field) for field in fields], dtype=object))
        elif number > 1 or fields[-1].lower() not in _HEADERS:
            pairs.append(_listed_pair(folder, fields, where, line.strip()[:60]))
    if not pairs:
        raise DataError(f"{pairs_file} lists no pair")
    if announced not in (None, len(pairs)):
        raise DataError(f"{pairs_file} announces {announced} pairs and lists {len(pairs)}: it may be cut")
    return pairs


_HEADERS = ("label", "same", "is_same", "issame")


def _fields(line):
    """A line's fields: between commas or tabs, where a path may hold blanks, else between blanks."""
    for separator in (",", "\t"):
        if separator in line:
            return [field for field in map(str.strip, line.split(separator)) if field]
    return line.split()


def _listed_pair(folder, fields, where, given):
    if len(fields) == 3 and fields[1].isdecimal():
        fields = [fields[0], fields[1], fields[0], fields[2]]
    elif len(fields) == 3 and fields[2] in ("0", "1"):
        return ListedPair([_below(folder, path, where) for path in fields[:2]], fields[2] == "1", where)
    if len(fields) != 4:
        raise DataError(f"{where} reads {given!r}, expected PATH1 PATH2 0 or 1, NAME i j, or NAME1 i NAME2 j")
    paths = [_person_image(folder, name, image, where) for name, image in (fields[:2], fields[2:])]
    return ListedPair(paths, fields[0] == fields[2], where)


def _below(folder, name, where):
    path = folder / name
    if pathlib.PurePosixPath(name).is_absolute() or ".." in pathlib.PurePosixPath(name).parts:
        raise DataError(f"{where}: {name} leads out of the folder of images; give a path relative to it")
    if not path.is_file():
        raise DataError(f"{where}: no image {path}")
    return path


def _checksum(content):
    return CHECKSUM + b"%08x\n" % zlib.crc32(content)


def check_pairs(pairs):
    """The images of a set that cannot be used: list of (number of the image, reason)."""
    bad, hearing = [], DecoderWarnings()
    for index, encoded in enumerate(pairs.images):
        try:
            _, remark = hearing.listen(decode_image, encoded, "image")
        except DataError as error:
            remark = str(error)
        if remark:
            bad.append((index, remark))
    return bad


def _person_image(folder, name, number, where):
    if not (number.isdecimal() and len(number) < 10):
        raise DataError(f"{where}: image {number!r} of {name}, expected a whole number")
    stem = str(folder / name / f"{name}_{int(number):04d}")
    for suffix in SUFFIXES:
        path = stem + suffix
        if os.path.isfile(path):  # also of names that no file can have
            return pathlib.Path(path)
    raise DataError(f"{where}: no image {stem}.jpg (or .png)")


def _listed(part):
    if isinstance(part, byte_pickle.ByteArray):
        is_sane = part.values is not None and len(part.values) <= MOST_PAIRS
        return part.values.tolist() if is_sane else None
    return list(part) if isinstance(part, (list, tuple)) else None


def _encoded(image, index, path):
    if isinstance(image, byte_pickle.ByteArray) and image.values is not None:
        if image.values.dtype.itemsize == 1:
            # The bytes it was made of, shared by all that refer to them.
            return image.raw
        raise DataError(f"{path}: image {index} is an array of {image.values.dtype}, expected encoded bytes (uint8)")
    if isinstance(image, bytes):
        return image
    raise DataError(f"{path}: image {index} is {_kind(image)}, expected bytes or an array of them")


def _kind(value):
    size = f" of {len(value)}" if isinstance(value, (list, tuple, bytes, str)) else ""
    return f"{type(value).__name__.lower()}{size}"
