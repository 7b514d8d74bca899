"""Where the faces of aligned images lie."""

import collections

import numpy as np

from vargfacenet.alignment import TEMPLATE, similarity
from vargfacenet.data.detector import FaceDetector

_ROOM = 69  # pixels around an image, since the detector was made for photographs

Places = collections.namedtuple("Places", "looked_at found offset scale")
Places.__doc__ = """Where faces lie in aligned images: images looked at, faces found in them, how far to the right of and
below the template they lie on average (float (2,), pixels), and how many times as large they are."""


def check_places(images):
    """Looks for the faces of aligned images, and where they lie beside the template.

    A whole set is easily beside it, aligned to other places or cut 96 pixels wide, and a network then sees what it never saw
    in training.

    Parameters
    ----------
    images : iterable of uint8 (112, 112, 3)
        RGB; some 200 of a set tell within half a pixel.

    Returns
    -------
    Places
    """
    detector, points, looked_at = FaceDetector(), [], 0
    for looked_at, image in enumerate(images, start=1):  # noqa: B007 - the count is the result
        face = detector.detect_one(np.pad(image, ((_ROOM, _ROOM), (_ROOM, _ROOM), (0, 0)), constant_values=128))
        if face is not None:
            points.append(face.points - _ROOM)
    if not points:
        return Places(looked_at, 0, np.full(2, np.nan), float("nan"))
    middle = np.mean(points, axis=0)
    scale = float(np.hypot(*similarity(TEMPLATE, middle)[:, 0]))
    return Places(looked_at, len(points), middle.mean(axis=0) - TEMPLATE.mean(axis=0), scale)
