"""Parameters of a drawn face, shared by every image of an identity, and how they are sampled.

Lengths are pixels of the aligned 112 x 112 crop. The origin of a face lies between the eyes and the mouth, at (56, 68)
of the crop. x points to the right, y downwards, z towards the viewer.
"""

from __future__ import annotations

import typing
from typing import Annotated, NamedTuple

import numpy as np


class Range(NamedTuple):
    """Bounds of a parameter that is sampled uniformly."""

    low: float
    high: float


class Identity(NamedTuple):
    """Parameters of a face."""

    temple_width: Annotated[float, Range(32.0, 41.0)]  # half widths of the head, from top to bottom
    cheek_width: Annotated[float, Range(34.0, 42.5)]
    jaw_width: Annotated[float, Range(22.0, 37.0)]
    chin_width: Annotated[float, Range(6.0, 19.0)]
    chin_y: Annotated[float, Range(38.0, 50.0)]
    jaw_y: Annotated[float, Range(20.0, 32.0)]
    cheek_hollow: Annotated[float, Range(0.0, 1.0)]
    melanin: Annotated[float, Range(0.0, 1.0)]
    skin_redness: Annotated[float, Range(-1.0, 1.0)]
    eye_x: Annotated[float, Range(14.5, 20.5)]  # of the left eye's centre, as a positive number
    eye_y: Annotated[float, Range(-20.0, -14.0)]
    eye_width: Annotated[float, Range(5.5, 9.0)]
    eye_opening: Annotated[float, Range(2.2, 5.6)]
    eye_tilt: Annotated[float, Range(-0.28, 0.28)]  # radians; positive: the outer corner is the higher one
    eye_peak: Annotated[float, Range(-0.4, 0.4)]  # where the upper lid is highest: -1 inner corner, 1 outer corner
    lower_lid: Annotated[float, Range(0.35, 0.95)]  # curve of the lower lid over that of the upper one
    crease: Annotated[float, Range(-1.0, 3.2)]  # from the lid to its fold; below 0.6: none
    eye_bags: Annotated[float, Range(-0.6, 1.0)]
    iris_size: Annotated[float, Range(2.7, 4.0)]
    iris_hue: Annotated[float, Range(0.0, 1.0)]
    brow_height: Annotated[float, Range(6.5, 12.5)]  # above the eye's centre
    brow_thickness: Annotated[float, Range(0.9, 4.4)]
    brow_angle: Annotated[float, Range(-0.3, 0.3)]
    brow_arch: Annotated[float, Range(0.0, 4.0)]
    brow_inner: Annotated[float, Range(3.5, 10.0)]
    brow_length: Annotated[float, Range(13.0, 21.0)]
    nose_y: Annotated[float, Range(1.0, 9.5)]  # of the tip
    nose_width: Annotated[float, Range(5.0, 11.5)]
    bridge_width: Annotated[float, Range(1.6, 5.0)]
    nose_depth: Annotated[float, Range(7.0, 17.0)]
    nose_droop: Annotated[float, Range(-2.5, 3.0)]
    nostril: Annotated[float, Range(0.8, 2.2)]
    mouth_y: Annotated[float, Range(20.0, 29.0)]
    mouth_width: Annotated[float, Range(9.0, 18.0)]
    upper_lip: Annotated[float, Range(0.8, 4.8)]
    lower_lip: Annotated[float, Range(1.6, 6.4)]
    cupid_bow: Annotated[float, Range(0.0, 1.8)]
    mouth_corner: Annotated[float, Range(-2.0, 2.0)]
    lip_redness: Annotated[float, Range(0.0, 1.0)]
    hair_tone: Annotated[float, Range(0.0, 1.0)]  # dark to light
    hair_red: Annotated[float, Range(0.0, 1.0)]
    hairline_y: Annotated[float, Range(-64.0, -38.0)]
    hairline_peak: Annotated[float, Range(-7.0, 7.0)]  # below 0: a widow's peak
    hair_temple: Annotated[float, Range(0.72, 1.02)]  # where the hairline meets the temple, over the temple's width
    parting: Annotated[float, Range(-0.6, 0.6)]
    hair_volume: Annotated[float, Range(1.04, 1.3)]
    ear_size: Annotated[float, Range(5.0, 11.0)]
    ear_angle: Annotated[float, Range(0.0, 7.0)]  # how far the ears stand off
    beard: Annotated[float, Range(-1.0, 0.9)]  # density; below 0: none
    moustache: Annotated[float, Range(-1.6, 1.0)]
    folds: Annotated[float, Range(-0.6, 1.0)]  # from nose to mouth; below 0: none
    forehead_lines: Annotated[float, Range(-1.2, 1.0)]
    chin_dimple: Annotated[float, Range(-1.5, 1.0)]
    hair_style: str  # one of `HAIR_STYLES`
    moles: np.ndarray  # float (n, 3): x, y, radius
    freckles: np.ndarray  # float (n, 3): x, y, radius


HAIR_STYLES = ("bald", "short", "short", "swept", "swept", "fringe", "long", "long")
# In the order of the fields, which decides the faces that a seed gives.
_RANGES: dict[str, Range] = {
    name: hint.__metadata__[0]
    for name, hint in typing.get_type_hints(Identity, include_extras=True).items()
    if typing.get_origin(hint) is Annotated
}


def sample_identity(random: np.random.Generator) -> Identity:
    """Sample a face; every parameter is uniform in its range and independent of the others."""
    values = {name: float(low + (high - low) * random.random()) for name, (low, high) in _RANGES.items()}
    values["brow_length"] = min(values["brow_length"], values["temple_width"] - values["brow_inner"] - 5.0)
    moles = random.uniform((-27.0, -32.0, 0.7), (27.0, 34.0, 1.7), (int(random.integers(0, 4)), 3))
    count = int(random.integers(12, 34)) if random.random() < 0.3 else 0
    freckles = np.stack(
        [random.normal(0.0, 13.0, count), random.normal(0.0, 5.0, count), random.uniform(0.35, 0.7, count)], axis=1
    )
    hair_style = HAIR_STYLES[int(random.integers(len(HAIR_STYLES)))]
    return Identity(**values, hair_style=hair_style, moles=moles, freckles=freckles)
