"""Looks at every record of a set, and says of each bad one what is wrong."""

import collections

import numpy as np

from vargfacenet.alignment import TEMPLATE, similarity
from vargfacenet.data.detector import FaceDetector
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


Places = collections.namedtuple("Places", "looked_at found offset scale")
Places.__doc__ = """Where faces lie in aligned pictures: pictures looked at, faces found in them, how far to the right of and
below the template they lie on average (float (2,), pixels), and how many times as large they are."""


def check_places(pictures):
    """Looks for the faces of aligned pictures, and where they lie beside the template.

    A whole set is easily beside it, aligned to other places or cut 96 pixels wide, and a network then sees what it never saw
    in training.

    Parameters
    ----------
    pictures : iterable of uint8 (112, 112, 3)
        RGB; some 200 of a set tell within half a pixel.

    Returns
    -------
    Places
    """
    detector, points, looked_at = FaceDetector(), [], 0
    for looked_at, picture in enumerate(pictures, start=1):  # noqa: B007 - the count is the result
        # With room around it, since the detector was made for photographs.
        face = detector.detect_one(np.pad(picture, ((_ROOM, _ROOM), (_ROOM, _ROOM), (0, 0)), constant_values=128))
        if face is not None:
            points.append(face.points - _ROOM)
    if not points:
        return Places(looked_at, 0, np.full(2, np.nan), float("nan"))
    middle = np.mean(points, axis=0)
    scale = float(np.hypot(*similarity(TEMPLATE, middle)[:, 0]))
    return Places(looked_at, len(points), middle.mean(axis=0) - TEMPLATE.mean(axis=0), scale)


_ROOM = 69  # pixels


def _identity_fault(pictures, labels, keys):
    first, after = pictures
    if not keys[0] <= first < after <= keys[-1] + 1:
        return f"an identity record of pictures {first}..{after - 1}, which the set does not have"
    found = {labels[key] for key in range(first, after) if key in labels}
    return f"an identity record whose pictures bear labels {sorted(found)[:4]}" if len(found) > 1 else None


def _reason(error, key):
    _, _, reason = str(error).partition(f"record {key}")
    return reason.lstrip(": ") or str(error)
