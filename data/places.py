"""Position of the faces in aligned images, compared with the template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vargfacenet.alignment import TEMPLATE, similarity
from vargfacenet.data.detector import FaceDetector

_PADDING = 69  # pixels around an image: the detector was trained on photographs


class Places(NamedTuple):
    """Average position of the faces in aligned images."""

    looked_at: int  # images
    found: int  # faces
    offset: np.ndarray  # float (2,): pixels to the right of and below the template; NaN if no face is found
    scale: float  # size relative to the template


def check_places(images: Iterable[np.ndarray]) -> Places:
    """Detect the faces of aligned images, uint8 (112, 112, 3), RGB, and compare their positions with the template.

    A whole set may be misaligned, for example because it was aligned by another template or cropped to 96 pixels; a
    network then sees faces unlike those of its training set. Some 200 images give the offset to half a pixel.
    """
    detector, points, looked_at = FaceDetector(), [], 0
    for looked_at, image in enumerate(images, start=1):  # noqa: B007 - the count is part of the result
        padded = np.pad(image, ((_PADDING, _PADDING), (_PADDING, _PADDING), (0, 0)), constant_values=128)
        face = detector.detect_one(padded)
        if face is not None:
            points.append(face.points - _PADDING)
    if not points:
        return Places(looked_at, 0, np.full(2, np.nan), float("nan"))
    mean = np.mean(points, axis=0)
    scale = float(np.hypot(*similarity(TEMPLATE, mean)[:, 0]))
    return Places(looked_at, len(points), mean.mean(axis=0) - TEMPLATE.mean(axis=0), scale)
