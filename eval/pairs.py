"""Verification sets, ``NAME.bin``: a pickle of encoded images, two per pair, and of the label of each pair.

A pickle can run any code; `vargfacenet.eval.byte_pickle` reads these without running any. A flipped bit in the list of
labels would give another valid set. The files written here therefore end with a checksum after the pickle, which other
readers ignore.
"""

from __future__ import annotations

import logging
import os
import pathlib
import pickle
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval import byte_pickle
from vargfacenet.eval.plausible import label_doubt
from vargfacenet.eval.protocols.verification import FOLDS
from vargfacenet.formats.content import what_it_is
from vargfacenet.formats.files import atomic_path, read_bytes
from vargfacenet.formats.images import DecoderWarnings, decode_image

log = logging.getLogger(__name__)
MOST_BYTES = 4 << 30  # of a set
CHECKSUM = b"\nvargfacenet crc32 "  # followed by eight hexadecimal digits: the CRC of everything before
MOST_PAIRS = 1 << 24  # whose labels may be an array


class Pairs(NamedTuple):
    """A verification set: images 2i and 2i + 1 are pair i."""

    images: list[bytes]  # encoded, 2n
    is_same: np.ndarray  # bool (n,): both images show one identity


def read_pairs(path: str | os.PathLike[str]) -> Pairs:
    """Read a verification set: a ``.bin`` file written by Python 2 or 3, with images as bytes or as uint8 arrays.

    Raises
    ------
    DataError
        If the file is missing, holds anything else (which is not run), is inconsistent, or does not match its checksum.
    """
    if pathlib.Path(path).suffix in (".rec", ".idx"):
        raise DataError(f"{path} belongs to a training set: pass it to --data; a verification set is a .bin file")
    whole = read_bytes(path, limit=MOST_BYTES)
    try:
        content, end = byte_pickle.load(whole)
        if whole[end:] not in (b"", _checksum(whole[:end])):
            raise DataError("is damaged: the checksum after its pickle does not match")
    except DataError as error:
        separator = " " if str(error).startswith("is ") else ": "
        raise DataError(f"{path}{separator}{error}{what_it_is(whole)}") from None
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise DataError(f"{path} is not a verification set: expected (images, is_same), found {_kind(content)}")
    images, is_same = (_listed(part) for part in content)
    if images is None or is_same is None:
        raise DataError(
            f"{path} is not a verification set: expected two lists, found {' and '.join(map(_kind, content))}"
        )
    if len(images) != 2 * len(is_same) or not is_same:
        raise DataError(f"{path} holds {len(images)} images for {len(is_same)} pairs, expected two per pair")
    images = [_encoded(image, index, path) for index, image in enumerate(images)]
    if not all(isinstance(same, (int, float)) and same in (0, 1) for same in is_same):
        raise DataError(f"{path}: expected true or false, or 1 or 0, as the label of each pair")
    return Pairs(images, np.array(is_same, dtype=bool))


def read_sets(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Pairs]:
    """Read verification sets for the protocol, by the stems of their files; the log warns of one whose pairs have one label.

    Raises
    ------
    DataError
        As `read_pairs`; also if two files have the same stem, or a set has fewer pairs than the protocol has folds.
    """
    sets: dict[str, Pairs] = {}
    for path in map(pathlib.Path, paths):
        if path.stem in sets:
            raise DataError(f"two verification sets are called {path.stem}; rename one, or choose the sets by --bins")
        pairs = sets[path.stem] = read_pairs(path)
        if len(pairs.is_same) < FOLDS:
            raise DataError(f"{path} holds {len(pairs.is_same)} pairs, too few: the protocol has {FOLDS} folds")
        doubt = label_doubt(pairs.is_same)
        if doubt:
            log.warning("%s: %s", path, doubt)
    return sets


def write_pairs(path: str | os.PathLike[str], images: Sequence[bytes], is_same: Iterable[bool]) -> None:
    """Write a verification set of encoded images, two per pair, in the lineage's format; whole or not at all."""
    content = ([bytes(image) for image in images], [bool(same) for same in is_same])
    if len(content[0]) != 2 * len(content[1]):
        raise DataError(f"{len(content[0])} images for {len(content[1])} pairs, expected two per pair")
    with atomic_path(path) as temporary:
        # Protocol 2 is the newest that Python 2 reads.
        pickled = pickle.dumps(content, protocol=2)
        temporary.write_bytes(pickled + _checksum(pickled))


def _checksum(content: bytes) -> bytes:
    return CHECKSUM + b"%08x\n" % zlib.crc32(content)


def check_pairs(pairs: Pairs) -> list[tuple[int, str]]:
    """Return number and reason of each image of a set that cannot be used."""
    bad: list[tuple[int, str]] = []
    remarks = DecoderWarnings()
    for index, encoded in enumerate(pairs.images):
        try:
            _, remark = remarks.listen(decode_image, encoded, "image")
        except DataError as error:
            remark = str(error)
        if remark:
            bad.append((index, remark))
    return bad


def _listed(part: Any) -> list[Any] | None:
    if isinstance(part, byte_pickle.ByteArray):
        return part.values.tolist() if part.values is not None and len(part.values) <= MOST_PAIRS else None
    return list(part) if isinstance(part, (list, tuple)) else None


def _encoded(image: Any, index: int, path: str | os.PathLike[str]) -> bytes:
    if isinstance(image, byte_pickle.ByteArray) and image.values is not None and image.raw is not None:
        if image.values.dtype.itemsize == 1:
            # The bytes that it consists of, shared by all references to them.
            return image.raw
        raise DataError(f"{path}: image {index} is an array of {image.values.dtype}, expected encoded bytes (uint8)")
    if isinstance(image, bytes):
        return image
    raise DataError(f"{path}: image {index} is {_kind(image)}, expected bytes or an array of them")


def _kind(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (list, tuple, bytes, str)) else ""
    return f"{type(value).__name__.lower()}{size}"
