"""Positions of the points of a face in the image: a 2.5-dimensional head, rotated, then aligned by five landmarks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from vargfacenet import alignment
from vargfacenet.data.synth.identity import Identity
from vargfacenet.data.synth.nuisance import Condition

SIDE = 112
SUPERSAMPLING = 2
_FIXED_POINT_BITS = 4  # polygons are given to OpenCV in sixteenths of a pixel

# Rounded to hundredths of a pixel, as in earlier versions: the same seed gives the same images.
TEMPLATE = np.round(alignment.TEMPLATE.astype(float), 2)
_ANGLES = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def surface(points: np.ndarray) -> np.ndarray:
    """Return the depth (n,) of points (n, 2) on the face, which is an ellipsoid without a nose."""
    return 34.0 * np.sqrt(np.maximum(1.0 - (points[:, 0] / 47.0) ** 2 - (points[:, 1] / 72.0) ** 2, 0.04))


def smooth(points: ArrayLike, *, closed: bool, steps: int = 6) -> np.ndarray:
    """Return the Catmull-Rom curve through points (n, d): (n * steps, d) if closed, else ((n - 1) * steps + 1, d)."""
    points = np.asarray(points, float)
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = before[:, None], start[:, None], end[:, None], after[:, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, points.shape[1])
    return curve if closed else np.concatenate([curve, points[-1:]])


class Canvas:
    """An image that is drawn at twice its size, and the pose that maps points of the face into it.

    The image is aligned by the landmarks of `identity`, in the pose of `condition`. `background`, uint8 (224, 224, 3),
    RGB, is drawn on in place and becomes `image`. `relief`, uint8 (112, 112), holds the brightness that the shape of the
    face causes; 128 is neutral.
    """

    def __init__(self, identity: Identity, condition: Condition, background: np.ndarray) -> None:
        self.image = background
        self.relief = np.full((SIDE, SIDE), 128, np.uint8)
        sin_yaw, cos_yaw, sin_pitch, cos_pitch = (
            f(angle) for angle in (condition.yaw, condition.pitch) for f in (np.sin, np.cos)
        )
        # Rows are x, y and z of the face, columns x and y of the image.
        rotation = np.array([[cos_yaw, sin_yaw * sin_pitch], [0.0, cos_pitch], [sin_yaw, -cos_yaw * sin_pitch]])
        landmarks = np.array(
            [
                [-identity.eye_x, identity.eye_y],
                [identity.eye_x, identity.eye_y],
                [0.0, identity.nose_y],
                [-identity.mouth_width, identity.mouth_y],
                [identity.mouth_width, identity.mouth_y],
            ]
        )
        depth = surface(landmarks)
        depth[2] += identity.nose_depth
        seen = np.column_stack([landmarks, depth]) @ rotation @ (1.0, 1.0j)
        wanted = TEMPLATE @ (1.0, 1.0j)
        offsets = seen - seen.mean()
        factor = np.vdot(offsets, wanted - wanted.mean()) / np.vdot(offsets, offsets)
        factor *= condition.scale * np.exp(1j * condition.roll)
        origin = wanted.mean() + complex(*condition.shift) - factor * seen.mean()
        self._matrix = rotation @ np.array([[factor.real, factor.imag], [-factor.imag, factor.real]])
        self._origin = np.array([origin.real, origin.imag])
        self._scale = abs(factor)
        self._rim_width = 1.0 / cos_yaw

    def place(self, points: ArrayLike, *, lift: float | np.ndarray = 0.0) -> np.ndarray:
        """Map points of the face (n, 2), `lift` (a number, or n of them) above its surface, to crop coordinates (n, 2)."""
        points = np.asarray(points, float)
        return np.column_stack([points, surface(points) + lift]) @ self._matrix + self._origin

    def place_rim(self, points: ArrayLike) -> np.ndarray:
        """Map points (n, 3) of the silhouette to crop coordinates (n, 2): a rotated round head stays as wide."""
        return np.asarray(points, float) * (self._rim_width, 1.0, 1.0) @ self._matrix + self._origin

    def fill(self, placed: np.ndarray, colour: ArrayLike) -> None:
        """Fill a polygon of crop coordinates (n, 2)."""
        cv2.fillPoly(self.image, [_fixed(placed, SUPERSAMPLING)], _bytes(colour), cv2.LINE_8, _FIXED_POINT_BITS)

    def line(self, placed: np.ndarray, colour: ArrayLike, *, width: float = 1.0) -> None:
        """Draw a line through crop coordinates (n, 2); the width is in pixels of the crop."""
        thickness = max(1, round(width * SUPERSAMPLING * self._scale))
        fixed = [_fixed(placed, SUPERSAMPLING)]
        cv2.polylines(self.image, fixed, False, _bytes(colour), thickness, cv2.LINE_8, _FIXED_POINT_BITS)

    def strokes(self, starts: np.ndarray, ends: np.ndarray, colour: ArrayLike) -> None:
        """Draw thin hairs from crop coordinates (n, 2) to others."""
        fixed = _fixed(np.stack([starts, ends], axis=1), SUPERSAMPLING)
        cv2.polylines(self.image, list(fixed), False, _bytes(colour), 1, cv2.LINE_8, _FIXED_POINT_BITS)

    def shade(self, placed: np.ndarray, level: float) -> None:
        """Set the relief inside a polygon of crop coordinates (n, 2); below 128 is darker."""
        cv2.fillPoly(self.relief, [_fixed(placed, 1)], int(np.clip(level, 0, 255)), cv2.LINE_AA, _FIXED_POINT_BITS)

    def shade_line(self, placed: np.ndarray, level: float, *, width: int = 2) -> None:
        """Set the relief along a line of crop coordinates (n, 2)."""
        fixed = [_fixed(placed, 1)]
        cv2.polylines(self.relief, fixed, False, int(np.clip(level, 0, 255)), width, cv2.LINE_AA, _FIXED_POINT_BITS)

    def dot(self, centre: ArrayLike, radius: float, colour: ArrayLike) -> None:
        """Draw a disc on the face; centre and radius are in pixels of the face."""
        self.fill(self.place(CIRCLE[::2] * radius + np.asarray(centre)), colour)


def _fixed(placed: np.ndarray, factor: int) -> np.ndarray:
    return np.rint((placed * factor + (factor - 1) / 2) * (1 << _FIXED_POINT_BITS)).astype(np.int32)


def _bytes(colour: ArrayLike) -> tuple[int, ...]:
    return tuple(int(min(max(value, 0), 255)) for value in np.asarray(colour).tolist())
