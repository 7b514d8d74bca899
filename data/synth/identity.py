"""What makes a drawn person: the parameters of a face that every image of it shares, and how they are drawn.

Lengths are pixels of the aligned 112 x 112 crop. The origin of a face lies between eyes and mouth, at (56, 68) of the
crop; x grows to the right, y downwards, z towards the viewer.
"""

import collections

import numpy as np

_RANGES = {
    "temple_width": (32.0, 41.0),  # half widths of the head, from top to bottom
    "cheek_width": (34.0, 42.5),
    "jaw_width": (22.0, 37.0),
    "chin_width": (6.0, 19.0),
    "chin_y": (38.0, 50.0),
    "jaw_y": (20.0, 32.0),
    "cheek_hollow": (0.0, 1.0),
    "melanin": (0.0, 1.0),
    "skin_redness": (-1.0, 1.0),
    "eye_x": (14.5, 20.5),  # of the left eye's centre, taken positive
    "eye_y": (-20.0, -14.0),
    "eye_width": (5.5, 9.0),
    "eye_opening": (2.2, 5.6),
    "eye_tilt": (-0.28, 0.28),  # radians; positive: the outer corner is the higher one
    "eye_peak": (-0.4, 0.4),  # where the upper lid is highest: -1 inner corner, 1 outer corner
    "lower_lid": (0.35, 0.95),  # curve of the lower lid over that of the upper one
    "crease": (-1.0, 3.2),  # from the lid to its fold; below 0.6: none
    "eye_bags": (-0.6, 1.0),
    "iris_size": (2.7, 4.0),
    "iris_hue": (0.0, 1.0),
    "brow_height": (6.5, 12.5),  # above the eye's centre
    "brow_thickness": (0.9, 4.4),
    "brow_angle": (-0.3, 0.3),
    "brow_arch": (0.0, 4.0),
    "brow_inner": (3.5, 10.0),
    "brow_length": (13.0, 21.0),
    "nose_y": (1.0, 9.5),  # of the tip
    "nose_width": (5.0, 11.5),
    "bridge_width": (1.6, 5.0),
    "nose_depth": (7.0, 17.0),
    "nose_droop": (-2.5, 3.0),
    "nostril": (0.8, 2.2),
    "mouth_y": (20.0, 29.0),
    "mouth_width": (9.0, 18.0),
    "upper_lip": (0.8, 4.8),
    "lower_lip": (1.6, 6.4),
    "cupid_bow": (0.0, 1.8),
    "mouth_corner": (-2.0, 2.0),
    "lip_redness": (0.0, 1.0),
    "hair_tone": (0.0, 1.0),  # dark to light
    "hair_red": (0.0, 1.0),
    "hairline_y": (-64.0, -38.0),
    "hairline_peak": (-7.0, 7.0),  # below 0: a widow's peak
    "hair_temple": (0.72, 1.02),  # where the hairline meets the temple, over the temple's width
    "parting": (-0.6, 0.6),
    "hair_volume": (1.04, 1.3),
    "ear_size": (5.0, 11.0),
    "ear_angle": (0.0, 7.0),  # how far the ears stand off
    "beard": (-1.0, 0.9),  # density; below 0: none
    "moustache": (-1.6, 1.0),
    "folds": (-0.6, 1.0),  # from nose to mouth; below 0: none
    "forehead_lines": (-1.2, 1.0),
    "chin_dimple": (-1.5, 1.0),
}

HAIR_STYLES = ("bald", "short", "short", "swept", "swept", "fringe", "long", "long")

Identity = collections.namedtuple("Identity", [*_RANGES, "hair_style", "moles", "freckles"])
Identity.__doc__ = (
    "A face: the numbers above, its hair style, its moles (n, 3: x, y, radius) and freckles (n, 3), float arrays."
)


def sample_identity(random: np.random.Generator) -> Identity:
    """Draws a face; every number is uniform in its range and independent of the others."""
    values = {name: float(low + (high - low) * random.random()) for name, (low, high) in _RANGES.items()}
    values["brow_length"] = min(values["brow_length"], values["temple_width"] - values["brow_inner"] - 5.0)
    moles = random.uniform((-27.0, -32.0, 0.7), (27.0, 34.0, 1.7), (int(random.integers(0, 4)), 3))
    count = int(random.integers(12, 34)) if random.random() < 0.3 else 0
    freckles = np.stack(
        [random.normal(0.0, 13.0, count), random.normal(0.0, 5.0, count), random.uniform(0.35, 0.7, count)], axis=1
    )
    style = HAIR_STYLES[int(random.integers(len(HAIR_STYLES)))]
    return Identity(**values, hair_style=style, moles=moles, freckles=freckles)
