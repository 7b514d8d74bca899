"""Hair of a drawn face: behind the neck, on the head, beard and moustache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vargfacenet.data.synth.identity import Identity
from vargfacenet.data.synth.nuisance import Condition
from vargfacenet.data.synth.palette import Palette, mix
from vargfacenet.data.synth.pose import Canvas, smooth

_SIDE_ENDS = {"short": -14.0, "swept": -8.0, "fringe": -4.0, "long": 48.0}  # y where the hair beside the face ends


def draw_back_hair(canvas: Canvas, identity: Identity, condition: Condition, palette: Palette) -> None:
    """Draw long hair that falls behind the neck."""
    if identity.hair_style != "long":
        return
    spread = identity.cheek_width * (identity.hair_volume + 0.06 + 0.03 * condition.hair_change[0])
    fall = [(0, -84), (0.8 * spread, -70), (spread, -30), (spread, 10), (0.98 * spread, 46), (0.8 * spread, 70)]
    curve = smooth([(x, y, -16.0) for x, y in fall + _mirrored(fall[1:])], closed=True, steps=4)
    canvas.fill(canvas.place_rim(curve), palette.hair_dark)


def draw_front_hair(
    canvas: Canvas, identity: Identity, condition: Condition, palette: Palette, random: np.random.Generator
) -> None:
    """Draw the hair between the hairline and a curve around the skull, with strands that differ by image."""
    if identity.hair_style == "bald":
        return
    line = _hairline(identity, condition)
    wide = identity.cheek_width * (identity.hair_volume + 0.025 * condition.hair_change[0])
    left = [(-wide, line[0, 1]), (-wide, -30.0), (-0.75 * wide, -70.0), (0.0, -84.0)]
    crown = smooth(left + _mirrored(left[:3]), closed=False, steps=5)
    crown = np.column_stack([crown, np.full(len(crown), -9.0)])
    canvas.fill(canvas.place_rim(np.concatenate([line, crown])), palette.hair)
    count = 70
    at = random.integers(4, len(line) - 4, count)
    # The hairline runs from right to left, the crown back again.
    way = crown[(len(crown) - 1) * (len(line) - 1 - at) // (len(line) - 1)] - line[at]
    starts = canvas.place_rim(line[at] + way * random.uniform(0.0, 0.5, (count, 1)))
    ends = canvas.place_rim(line[at] + way * 0.9)
    canvas.strokes(starts[::2], ends[::2], palette.hair_light)
    canvas.strokes(starts[1::2], ends[1::2], palette.hair_dark)


def _hairline(identity: Identity, condition: Condition) -> np.ndarray:
    """Return the lower edge of the front hair, from the right side over the forehead to the left: (n, 3)."""
    temple = identity.temple_width
    top = identity.hairline_y + 0.8 * condition.hair_change[1]
    edge = identity.hair_temple * temple
    right = [
        (identity.cheek_width - 1.5, _SIDE_ENDS[identity.hair_style]),
        (edge + 1.0, -26.0),
        (edge - 1.5, -38.0),
    ]
    if identity.hair_style == "fringe":
        low = -29.0 + 0.14 * (top + 50.0)
        front = [(0.5 * temple, low + 1.5), (0.0, low + 0.3 * identity.hairline_peak), (-0.5 * temple, low + 1.5)]
    elif identity.hair_style == "swept":
        high, low = min(top, -46.0) - 3.0, top + 11.0
        right_y, left_y = (high, low) if identity.parting > 0 else (low, high)
        front = [(0.58 * temple, right_y), (identity.parting * temple, high - 2.0), (-0.58 * temple, left_y)]
    else:
        front = [(0.52 * temple, top), (0.0, top - identity.hairline_peak), (-0.52 * temple, top)]
    line = smooth([*right, *front, *_mirrored(right)], closed=False, steps=5)
    return np.column_stack([line, np.where(np.abs(line[:, 0]) > edge - 3.0, -2.0, 14.0)])


def draw_beard(
    canvas: Canvas, outline: np.ndarray, identity: Identity, palette: Palette, random: np.random.Generator
) -> None:
    """Draw beard and moustache as a tint of the skin, the beard with hairs that differ by image.

    `outline`, float (n, 3), is the outline of the head.
    """
    if identity.beard > 0.1:
        rim = outline[outline[:, 1] > 4.0] * (0.985, 0.985, 1.0)  # right cheek, chin, left cheek
        half = identity.mouth_width
        above = np.array([(-half - 9, 14), (-half - 2, 24), (0, 26), (half + 2, 24), (half + 9, 14)])
        tint = mix(palette.skin, palette.hair, 0.25 + 0.6 * identity.beard)
        canvas.fill(np.concatenate([canvas.place_rim(rim), canvas.place(above)]), tint)
        right = rim[rim[:, 0] > 0]
        starts = random.uniform((-36.0, 8.0), (36.0, right[-1, 1] - 3.0), (260, 2))
        covered = starts[:, 1] > np.interp(starts[:, 0], above[:, 0], above[:, 1]) + 1.0
        covered &= np.abs(starts[:, 0]) < np.interp(starts[:, 1], right[:, 1], right[:, 0]) - 4.0
        if covered.any():
            starts = starts[covered]
            canvas.strokes(canvas.place(starts), canvas.place(starts + (0.2, 2.2)), palette.hair_dark)
    if identity.moustache > 0.1:
        top, low = identity.nose_y + 5.5, identity.mouth_y - 0.6 * identity.upper_lip
        half = 1.05 * identity.mouth_width
        area = [(0, top), (0.6 * half, top + 0.8), (half, low + 2.5), (0.5 * half, low), (0, low - 0.5)]
        tint = mix(palette.skin, palette.hair, 0.3 + 0.65 * identity.moustache)
        canvas.fill(canvas.place(area + _mirrored(area), lift=3.0), tint)


def _mirrored(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-x, y) for x, y in reversed(points)]
