"""Augmentations of the lineage, each a function of an image and a random generator.

An image is a uint8 array (height, width, 3), RGB. The generator is the sample's own, so that what happens to a
sample does not depend on threads or on where a run was stopped.
"""

import collections

import cv2
import numpy as np

from vargfacenet.formats.images import decode_image, encode_jpeg
from vargfacenet.options import check_range

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

_Augmentation = collections.namedtuple("Augmentation", "mirror shift color_jitter cutoff compress")


class Augmentation(_Augmentation):
    """Which augmentations a training set gets.

    Called with an image and a generator it gives the changed image, and whether it was mirrored (bool), which is
    the one change that a teacher's stored embeddings know of.

    Parameters
    ----------
    mirror : bool
        Mirrors half of the images; the only augmentation of the paper.
    shift : int
        Most pixels by which an image is moved along each axis; what that uncovers repeats the border. For faces that will
        not stand where those of the training set do.
    color_jitter : float
        Brightness, contrast and saturation each multiplied by 1 +- up to this, 0 .. 1; the lineage's is 0.125.
    cutoff : int
        Side in pixels of a grey square put somewhere on half of the images; 0 for none.
    compress : float
        Share of the images, 0 .. 1, that pass through JPEG at a quality of 20 .. 90.
    """

    __slots__ = ()

    def __new__(cls, *, mirror=True, shift=0, color_jitter=0.0, cutoff=0, compress=0.0):
        check_range("shift", shift, 0, 56, "pixels")
        check_range("color_jitter", color_jitter, 0, 1)
        check_range("cutoff", cutoff, 0, 112, "pixels")
        check_range("compress", compress, 0, 1)
        return super().__new__(cls, mirror, shift, color_jitter, cutoff, compress)

    def __call__(self, image, random):
        mirrored = bool(self.mirror and random.random() < 0.5)
        if mirrored:
            image = mirror(image)
        if self.shift:
            image = move(image, *random.integers(-self.shift, self.shift + 1, 2))
        if self.color_jitter:
            image = jitter_color(image, self.color_jitter, random)
        if self.compress and random.random() < self.compress:
            image = compress(image, int(random.integers(20, 91)))
        if self.cutoff and random.random() < 0.5:
            image = cut_off(image, self.cutoff, random)
        return image, mirrored


def mirror(image):
    """The image with left and right exchanged."""
    return cv2.flip(image[:, :, ::-1], 1)[:, :, ::-1]  # blue first, as decoded: OpenCV need not copy it before


def move(image, down, right):
    """The image moved by whole pixels, the uncovered border filled with what is nearest."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image[rows[:, None], columns]


def jitter_color(image, amount, random):
    """Brightness, contrast and saturation, each times a factor in 1 - amount .. 1 + amount."""
    brightness, contrast, saturation = random.uniform(1 - amount, 1 + amount, 3).astype(np.float32)
    values = image.astype(np.float32) * brightness
    mean = float((values @ _LUMA).mean())
    values = mean + (values - mean) * contrast
    grey = (values @ _LUMA)[:, :, None]
    return np.clip(grey + (values - grey) * saturation, 0, 255).astype(np.uint8)


def compress(image, quality):
    """The image after JPEG at a quality of 1 .. 100."""
    return decode_image(encode_jpeg(image, quality=quality), "compressed image", shape=None)


def cut_off(image, side, random):
    """The image with a grey square (128) of `side` pixels centred anywhere, cut by the border."""
    height, width = image.shape[:2]
    top, left = int(random.integers(0, height)) - side // 2, int(random.integers(0, width)) - side // 2
    image = image.copy()
    image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 128
    return image
