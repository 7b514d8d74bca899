"""Looks at every record of a set, and says of each bad one what is wrong."""

import collections

import numpy as np

from vargfacenet.data.index_record import EXACT
from vargfacenet.data.records import RecordSet
from vargfacenet.errors import DataError
from vargfacenet.formats.image_headers import image_form
from vargfacenet.formats.images import DecoderWarnings

Check = collections.namedtuple("Check", "images identities shape per_identity has_index is_sealed grey bad")
Check.__doc__ = """What a set holds: images, identities announced, (height, width), images of each identity that has
any (int array), whether it has identity records, whether records bear checksums, images that are grey, and its bad
records (list of (key, reason))."""


def check_records(path, *, progress=None):
    """Reads every record of a training set.

    Parameters
    ----------
    path : str or path
        Folder of the set, or its ``.rec`` file.
    progress : callable, optional
        Wraps the array of keys, as tqdm does.

    Returns
    -------
    Check

    Raises
    ------
    DataError
        Where the set cannot be opened at all.
    """
    records, hearing = RecordSet(path, allow_cut=True), DecoderWarnings()
    counts, bad, labels, grey = collections.Counter(), [], {}, 0
    for key in progress(records.keys) if progress else records.keys:
        key = int(key)
        try:
            (_, identity), remark = hearing.listen(records.read_face, key)
            grey += image_form(records.read(key).image).channels == 1
        except DataError as error:
            bad.append((key, _reason(error, key)))
            continue
        counts[identity] += 1
        labels[key] = identity
        if remark:
            bad.append((key, f"a JPEG that decodes and is damaged: {remark}"))
    claims = _Claims(records.keys, may_repeat=records.has_split_identities)
    for key in records.identity_keys.tolist():
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
        is_sealed=records.is_sealed,
        grey=grey,
        bad=bad,
    )


class _Claims:
    """Which identity record has which images and labels: each belongs to one."""

    def __init__(self, keys, *, may_repeat):
        self._may_repeat = may_repeat
        self._begin, self._end = int(keys[0]), int(keys[-1]) + 1
        self._owners, self._labels = np.zeros(len(keys), np.int64), {}

    def fault(self, key, first, after, labels):
        """What is wrong with the identity record `key` of images first..after - 1 (str); None where nothing is."""
        if after > EXACT:
            return None  # rounded
        if not self._begin <= first < after <= self._end:
            return f"an identity record of images {first}..{after - 1}, which the set does not have"
        found = sorted({labels[image] for image in range(first, after) if image in labels})
        if len(found) > 1:
            return f"an identity record whose images bear labels {found[:4]}"
        owners = self._owners[first - self._begin : after - self._begin]
        if owners.any():
            return f"an identity record of images that record {owners.max()} has too"
        owners[:] = key
        if self._may_repeat:
            return None
        other = self._labels.setdefault(found[0], key) if found else key
        return f"an identity record of label {found[0]}, which record {other} has too" if other != key else None


def _reason(error, key):
    _, _, reason = str(error).partition(f"record {key}")
    return reason.lstrip(": ") or str(error)
