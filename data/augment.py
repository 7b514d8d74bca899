"""Augmentations of the lineage, each a function of an image and a random generator.

An image is a uint8 array (height, width, 3), RGB. Each sample has its own generator, so that its augmentation depends
neither on threads nor on the update at which a run was resumed.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from vargfacenet.formats.images import decode_image, encode_jpeg
from vargfacenet.options import check_range

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class _Settings(NamedTuple):
    mirror: bool
    shift: int
    color_jitter: float
    cutoff: int
    compress: float


class Augmentation(_Settings):
    """Settings of the augmentation of a training set, and the function that applies it.

    Parameters
    ----------
    mirror
        Mirror half of the images; the only augmentation of the paper.
    shift
        Largest translation along each axis in pixels, 0 .. 56; the border is repeated. For faces whose alignment differs
        from that of the training set.
    color_jitter
        Brightness, contrast and saturation are each multiplied by a factor in 1 - j .. 1 + j, with j in 0 .. 1; the
        lineage uses 0.125.
    cutoff
        Side in pixels, 0 .. 112, of a grey square at a random place in half of the images; 0 for none.
    compress
        Probability, 0 .. 1, that an image is compressed as JPEG with a quality of 20 .. 90.

    Raises
    ------
    SettingError
        If a value is out of range.
    """

    __slots__ = ()

    def __new__(
        cls, *, mirror: bool = True, shift: int = 0, color_jitter: float = 0.0, cutoff: int = 0, compress: float = 0.0
    ) -> Augmentation:
        check_range("shift", shift, 0, 56, "pixels")
        check_range("color_jitter", color_jitter, 0, 1)
        check_range("cutoff", cutoff, 0, 112, "pixels")
        check_range("compress", compress, 0, 1)
        return super().__new__(cls, mirror, shift, color_jitter, cutoff, compress)

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, bool]:
        """Return the augmented image, and True if it is mirrored: a teacher's stored embeddings cover mirrored images."""
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


def mirror(image: np.ndarray) -> np.ndarray:
    """Exchange left and right."""
    return cv2.flip(image[:, :, ::-1], 1)[:, :, ::-1]  # blue first, as decoded: OpenCV need not copy the image


def move(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Translate an image by whole pixels and repeat its border."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image[rows[:, None], columns]


def jitter_color(image: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Multiply brightness, contrast and saturation, each by a factor in 1 - amount .. 1 + amount."""
    brightness, contrast, saturation = random.uniform(1 - amount, 1 + amount, 3).astype(np.float32)
    values = image.astype(np.float32) * brightness
    mean = float((values @ _LUMA).mean())
    values = mean + (values - mean) * contrast
    grey = (values @ _LUMA)[:, :, None]
    return np.clip(grey + (values - grey) * saturation, 0, 255).astype(np.uint8)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress an image as JPEG, with a quality of 1 .. 100, and decode it."""
    return decode_image(encode_jpeg(image, quality=quality), "compressed image", shape=None)


def cut_off(image: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Put a grey square (128) of `side` pixels, centred at a random pixel and clipped by the border, on a copy."""
    height, width = image.shape[:2]
    top, left = int(random.integers(0, height)) - side // 2, int(random.integers(0, width)) - side // 2
    image = image.copy()
    image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 128
    return image
