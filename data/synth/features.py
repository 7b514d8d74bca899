"""Eyes, brows, nose and mouth of a drawn face."""

from __future__ import annotations

import numpy as np

from vargfacenet.data.synth.identity import Identity
from vargfacenet.data.synth.nuisance import Condition
from vargfacenet.data.synth.palette import Palette, blend_colours
from vargfacenet.data.synth.pose import CIRCLE, Canvas, smooth

_ACROSS = np.linspace(-1.0, 1.0, 21)
_BULGE = 1.0 - _ACROSS**2
_IRIS_COLOURS = np.array([[38, 24, 18], [92, 56, 26], [104, 108, 60], [92, 130, 160], [128, 140, 150]], float)


def draw_eyes(canvas: Canvas, identity: Identity, condition: Condition, palette: Palette) -> None:
    """Draw eyeballs with their gaze, lids, the fold above them and the bags below."""
    iris_colour = blend_colours(_IRIS_COLOURS, identity.iris_hue)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, identity, condition, palette, iris_colour, side)


def _draw_eye(
    canvas: Canvas, identity: Identity, condition: Condition, palette: Palette, iris_colour: np.ndarray, side: float
) -> None:
    # In both eyes, x runs along the lids from the inner corner, -1, to the outer one, 1.
    along = _ACROSS * identity.eye_width
    tilt = -np.tan(identity.eye_tilt) * along
    peak = _BULGE * (1.0 + identity.eye_peak * _ACROSS)
    lower = tilt + identity.eye_opening * identity.lower_lid * _BULGE
    raised = tilt - identity.eye_opening * peak * (1.0 + 0.06 * condition.brow_raise)
    upper = raised + (lower - raised) * condition.eye_closure

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return canvas.place(np.stack([side * (identity.eye_x + x), identity.eye_y + y], axis=1))

    if identity.eye_bags > 0:
        bag = 3.0 * identity.eye_bags
        canvas.shade_line(place(along[4:17], lower[4:17] + bag + 1.0), 128 - 42 * identity.eye_bags, width=2)
    canvas.fill(place(np.concatenate([along, along[::-1]]), np.concatenate([upper, lower[::-1]])), palette.eyeball)
    for radius, colour in ((identity.iris_size, iris_colour), (identity.iris_size * 0.46, (14, 10, 10))):
        x = CIRCLE[:, 0] * radius + side * condition.gaze[0] * 2.0
        y = CIRCLE[:, 1] * radius + condition.gaze[1] - 0.12 * identity.eye_opening
        x = np.clip(x, along[0], along[-1])
        y = np.clip(y, np.interp(x, along, upper), np.interp(x, along, lower))
        canvas.fill(place(x, y), colour)
    glint = CIRCLE[::4] * 0.7 + (-side * 1.1, -0.35 * identity.eye_opening)
    if condition.eye_closure < 0.4:
        canvas.fill(place(glint[:, 0], glint[:, 1]), (245, 245, 245))
    if identity.crease > 0.6:
        canvas.line(place(along[2:19], raised[2:19] - identity.crease), palette.fold)
    canvas.line(place(along, lower), palette.fold)
    canvas.line(place(along, upper), palette.lash, width=1.3)


def draw_brows(canvas: Canvas, identity: Identity, condition: Condition, palette: Palette) -> None:
    """Draw the brows, which rise with the expression."""
    t = (_ACROSS + 1.0) / 2.0
    x = identity.brow_inner + identity.brow_length * t
    middle = identity.eye_y - identity.brow_height - 0.9 * condition.brow_raise
    y = middle - np.tan(identity.brow_angle) * identity.brow_length * (t - 0.5)
    y = y - identity.brow_arch * (1.0 - ((t - 0.62) / 0.62) ** 2)
    half = 0.5 * identity.brow_thickness * np.minimum(1.0, 0.62 + 1.5 * t) * np.minimum(1.0, 0.22 + 2.1 * (1.0 - t))
    for side in (-1.0, 1.0):
        outline = np.concatenate([np.stack([x, y - half], axis=1), np.stack([x, y + half], axis=1)[::-1]])
        canvas.fill(canvas.place(outline * (side, 1.0), lift=2.0), palette.brow)


def draw_nose(canvas: Canvas, identity: Identity, condition: Condition, palette: Palette) -> None:
    """Draw bridge, tip, wings and nostrils; the nose stands off the face and therefore moves further with the pose."""
    tip, width, bridge = identity.nose_y, identity.nose_width, identity.bridge_width
    top = identity.eye_y - 1.0
    base = tip + 3.4
    lean = float(condition.light_direction[0] * condition.light_strength)
    for side in (-1.0, 1.0):
        flank = [(0.6 * bridge, top), (1.9 * bridge, top + 3), (1.15 * width, base - 2), (0.5 * width, base - 5)]
        lifts = np.array([2.0, 0.0, 0.0, 0.7 * identity.nose_depth])
        canvas.shade(canvas.place(np.array(flank) * (side, 1.0), lift=lifts), 116 + 26 * lean * side)
    ridge = np.array([(-0.5 * bridge, top), (0.5 * bridge, top), (0.7 * bridge, tip - 2), (-0.7 * bridge, tip - 2)])
    depth = identity.nose_depth
    canvas.shade(canvas.place(ridge, lift=np.array([3.0, 3.0, depth, depth])), 143)
    canvas.shade(canvas.place(CIRCLE[::2] * (0.36 * width, 2.6) + (0.0, tip - 0.5), lift=depth), 150)
    under = np.array([(-0.9 * width, base + 1.5), (0.9 * width, base + 1.5), (0.0, base + 4.0)])
    canvas.shade(canvas.place(under, lift=1.0), 106)

    lower = base + identity.nose_droop
    outline = [
        (-width + 0.9, tip - 3.4),
        (-width, tip + 0.8),
        (-0.72 * width, base),
        (-0.34 * width, base - 0.6),
        (0.0, lower),
        (0.34 * width, base - 0.6),
        (0.72 * width, base),
        (width, tip + 0.8),
        (width - 0.9, tip - 3.4),
    ]
    lifts = depth * np.array([0.25, 0.3, 0.4, 0.6, 0.85, 0.6, 0.4, 0.3, 0.25])
    curve = smooth(np.column_stack([outline, lifts]), closed=False, steps=4)
    canvas.line(canvas.place(curve[:, :2], lift=curve[:, 2]), palette.fold)
    for side in (-1.0, 1.0):
        hole = CIRCLE[::2] * (0.2 * width + 0.5, identity.nostril) + (side * 0.46 * width, base - 0.9)
        canvas.fill(canvas.place(hole, lift=0.6 * depth), palette.nostril)


def draw_mouth(canvas: Canvas, identity: Identity, condition: Condition, palette: Palette) -> None:
    """Draw the lips, the teeth of an open mouth, and the folds from the nose, which a smile deepens."""
    smile, opening = condition.smile, condition.mouth_open
    half = identity.mouth_width * (1.0 + 0.16 * smile - 0.018 * opening)
    x = _ACROSS * half
    corner = identity.mouth_corner - 2.6 * smile
    middle = identity.mouth_y + corner * (np.abs(_ACROSS) ** 1.7 - 0.35)
    upper_edge, lower_edge = middle - 0.25 * opening * _BULGE, middle + 0.75 * opening * _BULGE
    bow = identity.cupid_bow * (
        np.exp(-((_ACROSS / 0.13) ** 2)) - 0.5 * np.exp(-(((np.abs(_ACROSS) - 0.3) / 0.18) ** 2))
    )
    top = upper_edge - identity.upper_lip * (1.0 - 0.12 * smile) * _BULGE**0.75 + bow
    bottom = lower_edge + identity.lower_lip * (1.0 - 0.12 * smile) * _BULGE**0.7
    lift = 3.0 * _BULGE

    def band(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        outline = np.concatenate([np.stack([x, above], axis=1), np.stack([x, below], axis=1)[::-1]])
        return canvas.place(outline, lift=np.concatenate([lift, lift[::-1]]))

    canvas.shade(canvas.place(CIRCLE * (0.6 * half, 1.3) + (0.0, float(bottom[10]) + 2.2)), 108)
    if identity.folds > 0 or smile > 0.5:
        depth = 0.5 * max(identity.folds, 0.0) + 0.35 * max(smile, 0.0)
        for side in (-1.0, 1.0):
            fold = [
                (identity.nose_width + 1.5, identity.nose_y + 1.0),
                (0.5 * (identity.nose_width + half) + 4.5, 0.5 * (identity.nose_y + identity.mouth_y) + 2.0),
                (half + 3.5, identity.mouth_y + corner + 1.0),
            ]
            canvas.shade_line(canvas.place(np.array(fold) * (side, 1.0)), 128 - 70 * depth, width=2)
    if opening > 0.8:
        canvas.fill(band(upper_edge, lower_edge), (52, 18, 20))
        teeth = np.minimum(upper_edge + min(2.6, 0.5 * opening) * _BULGE**0.5, lower_edge)
        canvas.fill(band(upper_edge, teeth), palette.teeth)
    canvas.fill(band(top, upper_edge), palette.upper_lip)
    canvas.fill(band(lower_edge, bottom), palette.lower_lip)
    if opening <= 0.8:
        canvas.line(canvas.place(np.stack([x, middle], axis=1), lift=lift), palette.mouth_line)
