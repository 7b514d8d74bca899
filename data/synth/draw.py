"""Drawing of one image of one face."""

from __future__ import annotations

import cv2
import numpy as np

from vargfacenet.data.synth.features import draw_brows, draw_eyes, draw_mouth, draw_nose
from vargfacenet.data.synth.hair import draw_back_hair, draw_beard, draw_front_hair
from vargfacenet.data.synth.head import Head
from vargfacenet.data.synth.identity import Identity
from vargfacenet.data.synth.nuisance import Condition, draw_background, photograph, relight
from vargfacenet.data.synth.palette import make_palette
from vargfacenet.data.synth.pose import CIRCLE, SIDE, SUPERSAMPLING, Canvas


def draw_face(identity: Identity, condition: Condition, random: np.random.Generator) -> np.ndarray:
    """Draw an RGB image of a face under a condition: uint8 (112, 112, 3), aligned like InsightFace's crops.

    Background, clothes, strands of hair and noise are drawn from `random`.
    """
    canvas = Canvas(identity, condition, draw_background(random, SIDE * SUPERSAMPLING))
    palette = make_palette(identity)
    head = Head(canvas, identity, condition, palette)
    draw_back_hair(canvas, identity, condition, palette)
    head.draw_neck(random.uniform(15.0, 235.0, 3))
    head.draw_skin()
    draw_beard(canvas, head.outline, identity, palette, random)
    draw_nose(canvas, identity, condition, palette)
    draw_mouth(canvas, identity, condition, palette)
    draw_eyes(canvas, identity, condition, palette)
    head.draw_marks()
    draw_brows(canvas, identity, condition, palette)
    draw_front_hair(canvas, identity, condition, palette, random)
    _draw_eyewear(canvas, identity, condition, random)
    image = cv2.resize(canvas.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    relief = cv2.GaussianBlur(canvas.relief, (0, 0), 1.7)
    values = relight(image, relief, condition)
    _draw_occluder(values, condition, random)
    return photograph(values, condition, random)


def _draw_eyewear(canvas: Canvas, identity: Identity, condition: Condition, random: np.random.Generator) -> None:
    if not condition.eyewear:
        return
    frame = random.uniform(10.0, 120.0, 3)
    size = np.array([random.uniform(9.5, 12.0), random.uniform(7.0, 10.0)])
    power = random.uniform(0.5, 1.0)  # 1: round lenses, below: squarer ones
    lens = np.sign(CIRCLE) * np.abs(CIRCLE) ** power * size
    lens = np.concatenate([lens, lens[:1]])
    width = float(random.uniform(0.8, 1.8))
    for side in (-1.0, 1.0):
        placed = canvas.place(lens + (side * max(identity.eye_x, size[0] + 2.0), identity.eye_y + 1.0), lift=6.0)
        if condition.eyewear == "sunglasses":
            canvas.fill(placed, frame * 0.3)
        canvas.line(placed, frame, width=width)
        arm = np.array([(side * (identity.eye_x + size[0]), identity.eye_y), (side * 41.0, identity.eye_y - 1.0)])
        canvas.line(canvas.place(arm), frame, width=width)
    bridge = np.array([(-3.5, identity.eye_y), (0.0, identity.eye_y - 1.0), (3.5, identity.eye_y)])
    canvas.line(canvas.place(bridge, lift=8.0), frame, width=width)


def _draw_occluder(values: np.ndarray, condition: Condition, random: np.random.Generator) -> None:
    """Cover part of a float image in place."""
    if not condition.occluder:
        return
    colour = tuple(random.uniform(10.0, 240.0, 3))
    if condition.occluder == "patch":
        width, height = random.integers(16, 44, 2)
        x, y = random.integers(0, SIDE - 16, 2)
        cv2.rectangle(values, (int(x), int(y)), (int(x + width), int(y + height)), colour, -1)
        return
    # A hand: a disc with fingers that reaches in from the left, right or bottom edge.
    skin = np.array((190.0, 140.0, 110.0)) * random.uniform(0.5, 1.15) * random.uniform(0.9, 1.1, 3)
    angle = random.uniform(0.1, np.pi - 0.1)
    centre = np.array([56.0, 60.0]) + np.array([np.cos(angle), np.sin(angle)]) * random.uniform(50.0, 62.0)
    cv2.circle(values, tuple(int(v) for v in centre), int(random.uniform(15, 21)), tuple(skin), -1, cv2.LINE_AA)
    for turn in (-0.5, -0.17, 0.17, 0.5):
        way = -np.array([np.cos(angle + turn), np.sin(angle + turn)])
        tip = centre + way * random.uniform(26.0, 36.0)
        ends = tuple(int(v) for v in centre), tuple(int(v) for v in tip)
        cv2.line(values, *ends, tuple(skin * (0.94 + 0.06 * (turn > 0))), 7, cv2.LINE_AA)
