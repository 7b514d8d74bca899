"""Align faces as the lineage's networks expect them: five points onto fixed places of a 112x112 image."""

from typing import Any

import cv2
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError

SIDE = IMAGE_SHAPE[1]

# x and y of left eye, right eye (left and right as seen in the image), tip of the nose, left and right corner of the
# mouth, in pixels whose centres are whole numbers: those of SphereFace for 96x112, arXiv 1704.08063, shifted by 8 pixels to
# the right as ArcFace's code does for 112x112, arXiv 1801.07698.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
_CLOSEST = 0.5  # pixels, root mean square distance from their centre, below which points do not describe a face
_LARGEST = 32766  # pixels: the largest side of an image that OpenCV can warp
_CANVAS = 10_000  # pixels: the largest side that is warped to, 300 MB


def similarity(points: Any, template: Any = TEMPLATE) -> np.ndarray:
    """Return the rotation, uniform scale and shift that map points to a template with the least squared error.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 13 (1991), eqs. 39 to
    43. In the plane, with points as complex numbers, it is the linear regression ``w = a z + b``, which excludes
    reflections.

    Parameters
    ----------
    points, template
        (n, 2), x and y of at least two points.

    Returns
    -------
    np.ndarray
        float64 (2, 3), M such that ``M @ (x, y, 1)`` is the image of the point (x, y).

    Raises
    ------
    DataError
        Where the shapes differ, a number is not finite, or all points coincide.
    """
    points, template = np.asarray(points, np.float64), np.asarray(template, np.float64)
    if points.ndim != 2 or points.shape != template.shape or points.shape[1] != 2 or len(points) < 2:
        raise DataError(
            f"points of shape {points.shape} for a template of {template.shape}, expected the same shape (n, 2)"
        )
    if not (np.isfinite(points).all() and np.isfinite(template).all()):
        raise DataError(f"points {_brief(points)}: expected finite numbers")
    z, w = points @ (1.0, 1.0j), template @ (1.0, 1.0j)
    offsets = z - z.mean()
    spread = np.vdot(offsets, offsets).real
    if spread <= 1e-18 * max(1.0, np.abs(z).max() ** 2) * len(z):
        raise DataError(f"points {_brief(points)} coincide: they define no rotation or scale")
    a = np.vdot(offsets, w - w.mean()) / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align_face(image: np.ndarray, points: Any, *, size: int = SIDE) -> np.ndarray:
    """Cut a face out of a photograph, aligned by its five points.

    Faces less than twice as large as the result are interpolated bilinearly, as the lineage does; larger ones are also
    averaged, see `warp`.

    Parameters
    ----------
    image
        uint8 (height, width, 3), RGB, each side at most 32,766 pixels.
    points
        (5, 2): left eye, right eye, nose, left and right corner of the mouth, as `TEMPLATE`; (0, 0) is the centre of the
        first pixel. They may lie outside the image by at most its width or height.
    size
        Side of the result in pixels; `TEMPLATE` is scaled to it.

    Returns
    -------
    np.ndarray
        uint8 (size, size, 3), RGB; black outside the photograph.

    Raises
    ------
    DataError
        For another kind of image, or points that are not finite, coincide or lie farther outside.
    """
    height, width = _checked(image).shape[:2]
    points = np.asarray(points, np.float64)
    matrix = similarity(points, scaled_template(size))
    if (points < (-width, -height)).any() or (points > (2 * width, 2 * height)).any():
        raise DataError(f"points {_brief(points)} lie far outside the image of {width}x{height} pixels")
    if np.sqrt(points.var(axis=0).sum()) < _CLOSEST:
        raise DataError(f"points {_brief(points)} coincide: expected a face of more than a pixel")
    return warp(image, matrix, size)


def warp(image: np.ndarray, matrix: Any, size: int) -> np.ndarray:
    """Move an image by a similarity, without aliasing.

    Images that shrink by a factor of two or more are first warped to a whole multiple of the size and then averaged, so
    that every pixel counts; others are interpolated bilinearly. Where that multiple is very large, as of a long and narrow
    image, the image itself is averaged first.

    Parameters
    ----------
    image
        uint8 (height, width, 3), each side at most 32,766 pixels.
    matrix
        (2, 3), which maps a point of the image to the result, as from `similarity`.
    size
        Side of the result in pixels.

    Returns
    -------
    np.ndarray
        uint8 (size, size, 3), black outside the image.

    Raises
    ------
    DataError
        For another kind of image.
    """
    matrix, image = np.array(matrix, np.float64), np.ascontiguousarray(_checked(image))
    times = _multiple(matrix)
    if size * times > _CANVAS:
        image, matrix = _shrunk(image, matrix, -(-size * times // _CANVAS))
        times = _multiple(matrix)
    matrix *= times
    matrix[:, 2] += (times - 1) / 2.0  # pixels have their centre at whole numbers, in both sizes
    warped = cv2.warpAffine(image, matrix, (size * times, size * times), flags=cv2.INTER_LINEAR)
    return warped if times == 1 else cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)


def _multiple(matrix: np.ndarray) -> int:
    """Return the whole number of pixels of an image, 1 or more, that a pixel of the result is the mean of, along a side."""
    return max(1, int(1.0 / np.hypot(*matrix[:, 0])))


def _shrunk(image: np.ndarray, matrix: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image that is `factor` times smaller, and the matrix that moves it as the given one moves the image."""
    height, width = image.shape[:2]
    sides = max(1, width // factor), max(1, height // factor)
    scale = np.array([width, height]) / sides
    # A pixel x of the small image has its centre at scale * (x + 0.5) - 0.5 in the large one.
    shift = matrix[:, :2] @ ((scale - 1) / 2.0) + matrix[:, 2]
    return cv2.resize(image, sides, interpolation=cv2.INTER_AREA), np.column_stack([matrix[:, :2] * scale, shift])


def scaled_template(size: int) -> np.ndarray:
    """Return `TEMPLATE`, float32 (5, 2), for images of another side. The edges of the image stay its edges."""
    return TEMPLATE if size == SIDE else (TEMPLATE + np.float32(0.5)) * np.float32(size / SIDE) - np.float32(0.5)


def _checked(image: Any) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"an image of {image.dtype} {image.shape}, expected uint8 (height, width, 3)")
    height, width = image.shape[:2]
    if max(height, width) > _LARGEST:
        raise DataError(f"an image of {width}x{height} pixels, expected sides of at most {_LARGEST}; scale it first")
    return image


def _brief(points: np.ndarray) -> str:
    return " ".join(f"({x:g}, {y:g})" for x, y in points[:5])
