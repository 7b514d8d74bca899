"""Check of every record of a training set."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from vargfacenet.data.index_record import EXACT
from vargfacenet.data.records import RecordSet
from vargfacenet.errors import DataError
from vargfacenet.formats.image_headers import image_form
from vargfacenet.formats.images import DecoderWarnings


class Check(NamedTuple):
    """Contents of a training set."""

    images: int
    identities: int  # as the set announces them
    shape: tuple[int, int]  # height, width
    per_identity: np.ndarray  # int, ascending: images of each identity that has any
    has_index: bool  # the set has identity records
    has_checksums: bool
    grey: int  # number of grey images
    bad: list[tuple[int, str]]  # key and reason of each bad record


def check_records(
    path: str | os.PathLike[str], *, progress: Callable[[np.ndarray], Iterable[int]] | None = None
) -> Check:
    """Read every record of a training set.

    `path` is the folder of the set or its ``.rec`` file. `progress` wraps the array of keys, as tqdm does.

    Raises
    ------
    DataError
        If the set cannot be opened at all.
    """
    records, remarks = RecordSet(path, allow_cut=True), DecoderWarnings()
    counts: collections.Counter[int] = collections.Counter()
    bad: list[tuple[int, str]] = []
    labels: dict[int, int] = {}
    grey = 0
    for key in progress(records.keys) if progress else records.keys:
        key = int(key)
        try:
            (_, identity), remark = remarks.listen(records.read_face, key)
            form = image_form(records.read(key).image)
            grey += form is not None and form.channels == 1
        except DataError as error:
            bad.append((key, _reason(error, key)))
            continue
        counts[identity] += 1
        labels[key] = identity
        if remark:
            bad.append((key, f"a JPEG that decodes but is damaged: {remark}"))
    claims = _Claims(records.keys, may_repeat=records.has_split_identities)
    for key in records.identity_keys.tolist():
        reason: str | None
        try:
            reason = claims.fault(key, *records.read_range(key), labels)
        except DataError as error:
            reason = _reason(error, key)
        if reason:
            bad.append((key, reason))
    records.close()
    return Check(
        images=len(records),
        identities=records.num_identities,
        shape=(records.height, records.width),
        per_identity=np.array(sorted(counts.values())),
        has_index=len(records.identity_keys) > 0,
        has_checksums=records.has_checksums,
        grey=grey,
        bad=bad,
    )


class _Claims:
    """Images and labels that the identity records claim: each belongs to one record."""

    def __init__(self, keys: np.ndarray, *, may_repeat: bool) -> None:
        self._may_repeat = may_repeat
        self._begin, self._end = int(keys[0]), int(keys[-1]) + 1
        self._owners = np.zeros(len(keys), np.int64)
        self._labels: dict[int, int] = {}

    def fault(self, key: int, first: int, end: int, labels: dict[int, int]) -> str | None:
        """Return the fault of the identity record `key` of images first..end - 1, or None."""
        if end > EXACT:
            return None  # rounded
        if not self._begin <= first < end <= self._end:
            return f"an identity record of images {first}..{end - 1}, which the set does not have"
        found = sorted({labels[image] for image in range(first, end) if image in labels})
        if len(found) > 1:
            return f"an identity record whose images have the labels {found[:4]}"
        owners = self._owners[first - self._begin : end - self._begin]
        if owners.any():
            return f"an identity record of images that record {owners.max()} also has"
        owners[:] = key
        if self._may_repeat:
            return None
        other = self._labels.setdefault(found[0], key) if found else key
        return f"an identity record of label {found[0]}, which record {other} also has" if other != key else None


def _reason(error: DataError, key: int) -> str:
    _, _, reason = str(error).partition(f"record {key}")
    return reason.lstrip(": ") or str(error)
