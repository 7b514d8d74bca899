"""Mixing of two faces in one image, as additional inputs for distillation when images are few.

A teacher and a student that see the same mixed image need no label [Beyer et al., arXiv 2106.05237].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np


class Blend(NamedTuple):
    """Blend of an image with the image of row `other`, which has a weight of 0 .. 0.5."""

    other: int
    weight: float

    def mix(self, image: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Mix two images, float32 (channels, height, width)."""
        return image + self.weight * (other - image)


class Patch(NamedTuple):
    """Replacement of a rectangle, given as slices of the image, by that of row `other`."""

    other: int
    place: tuple[slice, slice, slice]

    def mix(self, image: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Mix two images, float32 (channels, height, width)."""
        image = image.copy()
        image[self.place] = other[self.place]
        return image


Recipe = Union[Blend, Patch, None]


def mix_faces(images: np.ndarray, plan: Sequence[Recipe]) -> None:
    """Mix the first rows of a batch, float32 (N, channels, height, width), in place, as `plan_mix` returned."""
    originals = images.copy()
    for row, recipe in enumerate(plan):
        if recipe is not None:
            images[row] = recipe.mix(originals[row], originals[recipe.other])


def plan_mix(shape: tuple[int, int, int, int], probability: float, random: np.random.Generator) -> list[Recipe]:
    """Decide for each row of a batch whether, with which row and how it is mixed; needs no image.

    Each image is mixed with a probability of 0 .. 1. Half of the mixed images are blends [mixup, Zhang et al., arXiv
    1710.09412]; half receive a rectangle of the other image [CutMix, Yun et al., arXiv 1905.04899]. As faces are aligned,
    this gives, for example, the eyes of one identity with the mouth of another.

    `shape` is (N, channels, height, width). Returns N recipes; None leaves the image unchanged.
    """
    count, _, height, width = shape
    plan: list[Recipe] = []
    for other in random.permutation(count).tolist():
        is_mixed, is_blend = random.random(2) < (probability, 0.5)
        if not is_mixed:
            plan.append(None)
        elif is_blend:
            plan.append(Blend(other, random.uniform(0, 0.5)))
        else:
            high, wide = (int(side * random.uniform(0.25, 0.75)) for side in (height, width))
            top, left = random.integers(0, height - high + 1), random.integers(0, width - wide + 1)
            place = (slice(None), slice(top, top + high), slice(left, left + wide))
            plan.append(Patch(other, place))
    return plan
