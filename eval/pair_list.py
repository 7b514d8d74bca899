"""Lists of pairs of images, and verification sets made from them."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.pairs import Pairs
from vargfacenet.formats.content import what_file_it_is
from vargfacenet.formats.files import listed_path, read_lines
from vargfacenet.formats.images import SUFFIXES, as_face_jpeg, read_image


class ListedPair(NamedTuple):
    """A pair of images in a list."""

    paths: list[pathlib.Path]
    is_same: bool
    where: str  # file and line, for errors


def pairs_from_folder(
    folder: str | os.PathLike[str], pairs_file: str | os.PathLike[str], *, resize: bool = False
) -> Pairs:
    """Make a verification set of the images in a folder, in the pairs that a file lists, see `list_pairs`.

    With `resize`, images of another size are scaled to 112x112; otherwise they are an error.

    Raises
    ------
    DataError
        If a line is malformed, or an image is missing, cannot be decoded or has another size, naming the line.
    """
    listed = list_pairs(folder, pairs_file)
    encoded: dict[pathlib.Path, bytes] = {}
    images: list[bytes] = []
    for pair in listed:
        for path in pair.paths:
            if path not in encoded:
                encoded[path] = as_face_jpeg(read_image(path), f"{pair.where}: {path}", resize=resize)
            images.append(encoded[path])
    return Pairs(images, np.array([pair.is_same for pair in listed]))


def list_pairs(folder: str | os.PathLike[str], pairs_file: str | os.PathLike[str]) -> list[ListedPair]:
    """Read a list of pairs of the images in a folder; its order is that of the folds.

    Values are separated by blanks, tabs, commas or semicolons. Each line has one of these forms:

    - ``PATH1 PATH2 1`` for a pair of one identity and ``PATH1 PATH2 0`` for a pair of two, with paths relative to the
      folder. A first line that ends with ``label`` or ``same`` is a header.
    - ``NAME i j`` for one identity and ``NAME1 i NAME2 j`` for two, as in LFW's ``pairs.txt``. Image i of NAME is
      ``NAME/NAME_%04d.jpg`` or ``.png``. The first line may hold the number of folds and the number of pairs of each kind
      per fold, or only the latter; the total must be right.

    Raises
    ------
    DataError
        If a line is malformed or an image is missing, naming the line.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder of images {folder}{what_file_it_is(folder)}")
    pairs: list[ListedPair] = []
    announced: int | None = None
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


def _fields(line: str) -> list[str]:
    """Split a line at its commas, semicolons or tabs, so that paths may contain blanks; otherwise at blanks."""
    for separator in (",", ";", "\t"):
        if separator in line:
            return [field for field in map(str.strip, line.split(separator)) if field]
    return line.split()


def _listed_pair(folder: pathlib.Path, fields: list[str], where: str, given: str) -> ListedPair:
    if len(fields) == 3 and fields[1].isdecimal():
        fields = [fields[0], fields[1], fields[0], fields[2]]
    elif len(fields) == 3 and fields[2] in ("0", "1"):
        return ListedPair([_below(folder, path, where) for path in fields[:2]], fields[2] == "1", where)
    if len(fields) != 4:
        raise DataError(f"{where} reads {given!r}, expected PATH1 PATH2 0 or 1, NAME i j, or NAME1 i NAME2 j")
    paths = [_identity_image(folder, name, image, where) for name, image in (fields[:2], fields[2:])]
    return ListedPair(paths, fields[0] == fields[2], where)


def _below(folder: pathlib.Path, name: str, where: str) -> pathlib.Path:
    name = listed_path(name)
    path = folder / name
    if pathlib.PurePosixPath(name).is_absolute() or ".." in pathlib.PurePosixPath(name).parts:
        raise DataError(f"{where}: {name} leads out of the folder of images; give a path relative to it")
    if not path.is_file():
        raise DataError(f"{where}: no image {path}")
    return path


def _identity_image(folder: pathlib.Path, name: str, number: str, where: str) -> pathlib.Path:
    if not (number.isdecimal() and len(number) < 10):
        raise DataError(f"{where}: image {number!r} of {name}, expected a whole number")
    stem = str(folder / name / f"{name}_{int(number):04d}")
    for suffix in SUFFIXES:
        path = stem + suffix
        if os.path.isfile(path):  # False also for names that no file can have
            return pathlib.Path(path)
    raise DataError(f"{where}: no image {stem}.jpg (or .png)")
