"""Division of the records of a set into images and identity records, by record 0 and the index."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vargfacenet.errors import DataError

log = logging.getLogger(__name__)
EXACT = 1 << 24  # record 0 and the identity records state keys as float32, which is exact up to here
_FEW, _FEW_SHARE = 3, 0.01  # records that may be missing: packers omit images that they cannot read
_NAMED = 5


class Division(NamedTuple):
    """Keys of images and of identity records, without gaps."""

    keys: np.ndarray
    identity_keys: np.ndarray
    is_header_wrong: bool  # record 0 states other numbers of them


def divide(
    keys: np.ndarray,
    begin: int,
    end: int,
    is_image: Callable[[int], bool],
    read_range: Callable[[int], tuple[int, int]],
    where: str | os.PathLike[str],
) -> Division:
    """Divide the keys of an index.

    Parameters
    ----------
    keys
        All keys, int64, ascending; the first is 0.
    begin, end
        First key of the identity records, and the key after the last, as record 0 states them.
    is_image
        Returns True if the record of a key holds an image.
    read_range
        Returns the range that an identity record states.
    where
        Record file, for errors.

    Raises
    ------
    DataError
        If record 0 and the index differ by more than a few records.
    """
    if not 1 < begin <= end:
        raise DataError(f"{where}: record 0 announces identity records {begin}..{end - 1}; it is not an index record")
    if end >= EXACT:
        begin, end = _unrounded(keys, begin, end, is_image)
    listed, listed_identities = keys[(keys > 0) & (keys < begin)], keys[(keys >= begin) & (keys < end)]
    more = len(keys) - 1 - len(listed) - len(listed_identities)
    lost = end - len(keys) + more
    if more or lost > max(_FEW, _FEW_SHARE * (begin - 1)):
        found = _by_content(keys, is_image, read_range) if begin > keys[-1] else None
        if found is None:
            missing = "" if more else f"; {_names(keys, end)} are missing"
            raise DataError(
                f"{where}: record 0 announces {begin - 1} images and {end - begin} identities, the index lists "
                f"{len(listed)} and {len(listed_identities)}{f' and {more} more records' if more else ''}; the index belongs "
                f"to another file{missing}"
            )
        log.warning(
            "%s: record 0 announces %d images and %d identities, which is wrong: there are %d and %d, which are consistent",
            where,
            begin - 1,
            end - begin,
            *map(len, found),
        )
        return Division(*found, True)
    if lost:
        log.warning(
            "%s: the index lacks %d of %d records, %s: they count as bad images; to avoid them, pack the set again from "
            "images that can be read",
            where,
            lost,
            end - 1,
            _names(keys, end),
        )
    return Division(np.arange(1, begin), np.arange(begin, end), False)


def _names(keys: np.ndarray, end: int) -> str:
    """Return some of the keys that an index lacks, as text."""
    present = np.zeros(min(end, int(keys[-1]) + 2), bool)
    present[keys[keys < len(present)]] = True
    missing = np.flatnonzero(~present)
    more = end - len(present) + len(missing) - len(missing[:_NAMED])
    return "records " + ", ".join(map(str, missing[:_NAMED].tolist())) + (f" and {more} more" if more > 0 else "")


def _unrounded(keys: np.ndarray, begin: int, end: int, is_image: Callable[[int], bool]) -> tuple[int, int]:
    """Recover from the records the range that float32 rounded."""
    slack = int(np.spacing(np.float32(end)))
    last = int(keys[-1])
    near = keys[(keys >= begin - slack) & (keys <= begin + slack)].tolist()
    begin = next((key for key in near if not is_image(key)), begin)
    return begin, last + 1 if abs(last + 1 - end) <= slack else end


def _by_content(
    keys: np.ndarray, is_image: Callable[[int], bool], read_range: Callable[[int], tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the keys of images and identity records by their content; None if they are not exactly consistent."""
    if is_image(int(keys[-1])) or not np.array_equal(keys, np.arange(len(keys))):
        return None
    low, high = 1, int(keys[-1])  # bounds of the first record without an image
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if is_image(middle) else (low, middle)
    after = 1
    for key in range(low, len(keys)):
        first, following = read_range(key)
        if first != after or following <= first:
            return None
        after = following
    return (np.arange(1, low), np.arange(low, len(keys))) if after == low else None
