"""Which records of a set are images and which stand for an identity, as record 0 and the index say."""

import logging
import typing

import numpy as np

from vargfacenet.errors import DataError

log = logging.getLogger(__name__)
EXACT = 1 << 24  # up to here float32, in which record 0 and the identity records state keys, holds every whole number
_FEW, _FEW_SHARE = 3, 0.01  # records that may be missing: packers leave out images that they could not read
_NAMED = 5


class Division(typing.NamedTuple):
    """Keys of images and of identity records, without gaps, and True where record 0 states another number of them."""

    keys: np.ndarray
    identity_keys: np.ndarray
    is_header_wrong: bool


def divide(keys: np.ndarray, begin: int, end: int, is_image, read_range, where) -> Division:
    """Divides the keys of an index.

    Parameters
    ----------
    keys
        All keys (int64, ascending), of which the first is 0.
    begin, end
        What record 0 states: the first key of an identity record and that after the last.
    is_image, read_range : callable
        True where the record of a key holds an image; the range that an identity record states.
    where
        The record file, for errors.

    Raises
    ------
    DataError
        Where record 0 and the index differ by more than a few records.
    """
    if not 1 < begin <= end:
        raise DataError(f"{where}: record 0 announces identity records {begin}..{end - 1}; it is no index record")
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
                f"{len(listed)} and {len(listed_identities)}{f' and {more} more records' if more else ''}; the index is not "
                f"of this file{missing}"
            )
        log.warning(
            "%s: record 0 announces %d images and %d identities, which is wrong: there are %d and %d, which fit one another",
            where,
            begin - 1,
            end - begin,
            *map(len, found),
        )
        return Division(*found, True)
    if lost:
        log.warning(
            "%s: the index lacks %d of %d records, %s: they count as bad images; pack the set again from images that can be "
            "read to have none",
            where,
            lost,
            end - 1,
            _names(keys, end),
        )
    return Division(np.arange(1, begin), np.arange(begin, end), False)


def _names(keys, end):
    """Some keys that an index lacks, as text."""
    present = np.zeros(min(end, int(keys[-1]) + 2), bool)
    present[keys[keys < len(present)]] = True
    missing = np.flatnonzero(~present)
    more = end - len(present) + len(missing) - len(missing[:_NAMED])
    return "records " + ", ".join(map(str, missing[:_NAMED].tolist())) + (f" and {more} more" if more > 0 else "")


def _unrounded(keys, begin, end, is_image):
    """What was stated before float32 rounded it, by the records themselves."""
    slack = int(np.spacing(np.float32(end)))
    last = int(keys[-1])
    near = keys[(keys >= begin - slack) & (keys <= begin + slack)].tolist()
    begin = next((key for key in near if not is_image(key)), begin)
    return begin, last + 1 if abs(last + 1 - end) <= slack else end


def _by_content(keys, is_image, read_range):
    """Keys of images and identity records by what the records hold; None where the two do not fit one another exactly."""
    if is_image(int(keys[-1])) or not np.array_equal(keys, np.arange(len(keys))):
        return None
    low, high = 1, int(keys[-1])  # the first record without image is among them
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
