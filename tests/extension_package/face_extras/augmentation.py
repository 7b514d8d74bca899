"""An augmentation."""

import numpy as np

from vargfacenet.data import register_augmentation


@register_augmentation
def darken(image: np.ndarray, random: np.random.Generator, *, most: float = 0.5) -> np.ndarray:
    """Multiply the image by a factor in 1 - most .. 1."""
    return (image * random.uniform(1 - most, 1)).astype(np.uint8)
