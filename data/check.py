"""Looks at every record of a set, and says of each bad one what is wrong."""

import collections

import numpy as np

from vargfacenet.data.records import RecordSet
from vargfacenet.errors import DataError
from vargfacenet.pictures import is_cut

Check = collections.namedtuple("Check", "pictures identities shape per_identity has_index bad")
Check.__doc__ = """What a set holds: pictures, identities announced, (height, width), pictures of each identity that has
any (int array), whether it has identity records, and its bad records (list of (key, reason))."""


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
    records = RecordSet(path, allow_cut=True)
    counts, bad, labels = collections.Counter(), [], {}
    for key in progress(records.keys) if progress else records.keys:
        key = int(key)
        try:
            _, identity = records.read_face(key)
        except DataError as error:
            bad.append((key, _reason(error, key)))
            continue
        counts[identity] += 1
        labels[key] = identity
        if is_cut(records.read(key).picture):
            bad.append((key, "a JPEG that is cut before its end"))
    for key in records.identity_keys:
        try:
            reason = _identity_fault(records.read_range(int(key)), labels, records.keys)
        except DataError as error:
            reason = _reason(error, int(key))
        if reason:
            bad.append((int(key), reason))
    records.close()
    return Check(
        pictures=len(records),
        identities=records.num_identities,
        shape=(records.height, records.width),
        per_identity=np.array(sorted(counts.values())),
        has_index=len(records.identity_keys) > 0,
        bad=bad,
    )


def _identity_fault(pictures, labels, keys):
    first, after = pictures
    if not keys[0] <= first < after <= keys[-1] + 1:
        return f"an identity record of pictures {first}..{after - 1}, which the set does not have"
    found = {labels[key] for key in range(first, after) if key in labels}
    return f"an identity record whose pictures bear labels {sorted(found)[:4]}" if len(found) > 1 else None


def _reason(error, key):
    _, _, reason = str(error).partition(f"record {key}")
    return reason.lstrip(": ") or str(error)
