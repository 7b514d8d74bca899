"""Head of a drawn face: its outline, skin, ears and marks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vargfacenet.data.synth.identity import Identity
from vargfacenet.data.synth.nuisance import Condition
from vargfacenet.data.synth.palette import Palette
from vargfacenet.data.synth.pose import CIRCLE, Canvas, smooth


class Head:
    """Outline of a head, and the layers that are drawn on it in the order that the caller chooses.

    `outline`, float (n, 3), holds x, y and depth of the silhouette, clockwise from the crown.
    """

    def __init__(self, canvas: Canvas, identity: Identity, condition: Condition, palette: Palette) -> None:
        self.canvas, self.identity, self.condition, self.palette = canvas, identity, condition, palette
        chin = identity.chin_y + 0.7 * condition.mouth_open
        right = [
            (0.62 * identity.temple_width, -66.0, -8.0),
            (identity.temple_width, -36.0, -6.0),
            (identity.cheek_width, -3.0, -4.0),
            (identity.jaw_width, identity.jaw_y, 2.0),
            (identity.chin_width, chin - 3.0, 10.0),
        ]
        left = [(-x, y, z) for x, y, z in reversed(right)]
        knots = [(0.0, -76.0, -6.0), *right, (0.0, chin, 12.0), *left]
        self.outline = smooth(knots, closed=True)

    def draw_neck(self, clothes: ArrayLike) -> None:
        """Draw neck, shoulders in the colour of the clothes, and ears."""
        identity, canvas, palette = self.identity, self.canvas, self.palette
        neck = 0.72 * identity.jaw_width
        column = [(-neck, 10, -18), (neck, 10, -18), (neck, 60, -18), (-neck, 60, -18)]
        canvas.fill(canvas.place_rim(column), palette.skin * 0.78)
        shirt = [(-70, 66, -20), (-neck - 3, 51, -20), (0, 57, -12), (neck + 3, 51, -20), (70, 66, -20), (0, 120, -20)]
        canvas.fill(canvas.place_rim(shirt), clothes)
        if identity.hair_style != "long" or identity.ear_angle > 4.5:
            for side in (-1.0, 1.0):
                ear = CIRCLE * (3.0 + 0.55 * identity.ear_angle, identity.ear_size)
                ear = ear + (identity.cheek_width + 0.25 * identity.ear_angle, -8.0)
                canvas.fill(
                    canvas.place_rim(np.column_stack([ear * (side, 1.0), np.full(len(ear), -9.0)])), palette.ear
                )
                inner = (ear - (identity.cheek_width, -8.0)) * 0.55 + (identity.cheek_width + 1.0, -8.0)
                placed = canvas.place_rim(np.column_stack([inner * (side, 1.0), np.full(len(ear), -8.0)]))
                canvas.line(placed[:18], palette.fold)

    def draw_skin(self) -> None:
        """Draw the face with hollow cheeks, eye sockets and the shadow towards its rim."""
        identity, canvas = self.identity, self.canvas
        placed = canvas.place_rim(self.outline)
        canvas.fill(placed, self.palette.skin)
        canvas.shade(placed, 112)
        canvas.shade(canvas.place_rim(self.outline * (0.86, 0.9, 1.0)), 128)
        for side in (-1.0, 1.0):
            middle = 0.5 * (17.0 + identity.jaw_width), 0.5 * identity.jaw_y + 4.0
            hollow = CIRCLE[::2] * (0.5 * (identity.jaw_width - 12.0), 7.5) + middle
            canvas.shade(canvas.place(hollow * (side, 1.0)), 128 - 22 * identity.cheek_hollow)
            canvas.shade(canvas.place(CIRCLE[::2] * (7.0, 4.5) + (side * 23.0, 0.0)), 128 + 14 * identity.cheek_hollow)
            canvas.shade(canvas.place(CIRCLE[::2] * (9.5, 5.5) + (side * identity.eye_x, identity.eye_y - 3.5)), 116)

    def draw_marks(self) -> None:
        """Draw freckles, moles, lines of the forehead and a dimple of the chin."""
        identity, canvas, palette = self.identity, self.canvas, self.palette
        for x, y, radius in identity.freckles:
            canvas.dot((x, y), radius, palette.fold)
        for x, y, radius in identity.moles:
            canvas.dot((x, y), radius, palette.nostril)
        if identity.forehead_lines > 0:
            for y in (-42.0, -37.5):
                x = np.linspace(-15.0, 15.0, 9)
                line = np.stack([x, y - 0.9 * self.condition.brow_raise + 0.006 * x * x], axis=1)
                canvas.shade_line(canvas.place(line), 128 - 60 * identity.forehead_lines, width=1)
        if identity.chin_dimple > 0:
            bottom = identity.chin_y + 0.7 * self.condition.mouth_open
            dimple = np.array([(0.0, bottom - 7.0), (0.0, bottom - 2.5)])
            canvas.shade_line(canvas.place(dimple), 128 - 80 * identity.chin_dimple, width=2)
