"""Augmentations of the lineage, each a function of a picture and a random generator.

A picture is a uint8 array (height, width, 3), RGB. The generator is the sample's own, so that what happens to a
sample does not depend on threads or on where a run was stopped.
"""

import collections

import cv2
import numpy as np

from vargfacenet.options import check_range
from vargfacenet.pictures import decode_picture, encode_jpeg

_RED, _GREEN, _BLUE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

_Augmentation = collections.namedtuple("Augmentation", "mirror shift color_jitter cutoff compress")


class Augmentation(_Augmentation):
    """Which augmentations a training set gets.

    Called with a picture and a generator it gives the changed picture, and whether it was mirrored (bool), which is
    the one change that a teacher's stored embeddings know of.

    Parameters
    ----------
    mirror : bool
        Mirrors half of the pictures; the only augmentation of the paper.
    shift : int
        Most pixels by which a picture is moved along each axis; what that uncovers repeats the border. For faces that will
        not stand where those of the training set do.
    color_jitter : float
        Brightness, contrast and saturation each multiplied by 1 +- up to this, 0 .. 1; the lineage's is 0.125.
    cutoff : int
        Side in pixels of a grey square put somewhere on half of the pictures; 0 for none.
    compress : float
        Share of the pictures, 0 .. 1, that pass through JPEG at a quality of 20 .. 90.
    """

    __slots__ = ()

    def __new__(cls, *, mirror=True, shift=0, color_jitter=0.0, cutoff=0, compress=0.0):
        check_range("shift", shift, 0, 56, "pixels")
        check_range("color_jitter", color_jitter, 0, 1)
        check_range("cutoff", cutoff, 0, 112, "pixels")
        check_range("compress", compress, 0, 1)
        return super().__new__(cls, mirror, shift, color_jitter, cutoff, compress)

    def __call__(self, picture, random):
        mirrored = bool(self.mirror and random.random() < 0.5)
        if mirrored:
            picture = mirror(picture)
        if self.shift:
            picture = move(picture, *random.integers(-self.shift, self.shift + 1, 2))
        if self.color_jitter:
            picture = jitter_color(picture, self.color_jitter, random)
        if self.compress and random.random() < self.compress:
            picture = compress(picture, int(random.integers(20, 91)))
        if self.cutoff and random.random() < 0.5:
            picture = cut_off(picture, self.cutoff, random)
        return picture, mirrored


def mirror(picture):
    """The picture with left and right exchanged."""
    return cv2.flip(picture[:, :, ::-1], 1)[:, :, ::-1]  # blue first, as decoded: OpenCV need not copy it before


def move(picture, down, right):
    """The picture moved by whole pixels, the uncovered border filled with what is nearest."""
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return picture[rows[:, None], columns]


def jitter_color(picture, amount, random):
    """Brightness, contrast and saturation, each times a factor in 1 - amount .. 1 + amount."""
    brightness, contrast, saturation = random.uniform(1 - amount, 1 + amount, 3).astype(np.float32)
    # Blue first, as in `mirror`.
    planes = [plane.astype(np.float32) * brightness for plane in cv2.split(picture[:, :, ::-1])]
    # A last digit that differs becomes a grey level below. In float32 it depends on the order of the sum, which NumPy has
    # changed since 1.23; in float64 the sum of so few float32 numbers is exact in any order.
    mean = float(_luma(planes).mean(dtype=np.float64))
    planes = [mean + (plane - mean) * contrast for plane in planes]
    grey = _luma(planes)
    changed = [np.clip(grey + (plane - grey) * saturation, 0, 255).astype(np.uint8) for plane in planes]
    return cv2.merge(changed)[:, :, ::-1]


def _luma(planes):
    """The luma of planes in the order blue, green, red. No matrix product: its rounding depends on the BLAS and the CPU."""
    blue, green, red = planes
    return red * _RED + green * _GREEN + blue * _BLUE


def compress(picture, quality):
    """The picture after JPEG at a quality of 1 .. 100."""
    return decode_picture(encode_jpeg(picture, quality=quality), "compressed picture", shape=None)


def cut_off(picture, side, random):
    """The picture with a grey square (128) of `side` pixels centred anywhere, cut by the border."""
    height, width = picture.shape[:2]
    top, left = int(random.integers(0, height)) - side // 2, int(random.integers(0, width)) - side // 2
    picture = picture.copy()
    picture[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 128
    return picture
