"""Images to compare networks on, and measures of the difference between embeddings."""

import cv2
import numpy as np

from vargfacenet import IMAGE_SHAPE


def probe_images(count: int, *, seed: int = 0) -> np.ndarray:
    """Return images that use the whole range: float32 (count, 3, 112, 112), whole numbers 0..255.

    They are soft like photographs, with different contrasts and some noise, so that the inputs of all rectifiers have
    both signs. The first is white and the second black.
    """
    random = np.random.RandomState(seed)
    channels, height, width = IMAGE_SHAPE
    images = np.empty((count, height, width, channels), np.float32)
    for place in range(count):
        coarse = random.uniform(-1, 1, (random.randint(4, 15), random.randint(4, 15), channels)).astype(np.float32)
        soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = random.normal(0, random.uniform(0, 20), soft.shape)
        images[place] = random.uniform(80, 176) + random.uniform(20, 200) * soft + noise
    images = np.clip(np.rint(images), 0, 255)
    images[:1], images[1:2] = 255, 0
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest length of a row's difference over the length of its expected row: two (n, d) -> float.

    It is infinite where a number is not finite.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    lengths = np.linalg.norm(expected, axis=1)
    return float((np.linalg.norm(found - expected, axis=1) / np.where(lengths == 0, 1, lengths)).max())


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of one array with the same row of another: two (n, d) -> (n,).

    It is 1 for two rows of zeros, which are equal, and 0 where only one is.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    product = lengths[0] * lengths[1]
    both_zero = (lengths[0] == 0) & (lengths[1] == 0)
    return np.where(both_zero, 1.0, (one * other).sum(axis=1) / np.where(product == 0, 1, product))
