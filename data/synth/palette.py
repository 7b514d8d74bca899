"""Colours of a drawn face."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vargfacenet.data.synth.identity import Identity


class Palette(NamedTuple):
    """RGB colours of a face, float (3,) each."""

    skin: np.ndarray
    ear: np.ndarray
    fold: np.ndarray
    brow: np.ndarray
    lash: np.ndarray
    hair: np.ndarray
    hair_light: np.ndarray
    hair_dark: np.ndarray
    upper_lip: np.ndarray
    lower_lip: np.ndarray
    mouth_line: np.ndarray
    nostril: np.ndarray
    eyeball: np.ndarray
    teeth: np.ndarray


_SKINS = np.array([[236, 198, 172], [216, 168, 134], [182, 128, 94], [132, 88, 62]], float)
_HAIRS = np.array([[30, 24, 22], [72, 48, 34], [118, 84, 54], [172, 138, 88], [176, 172, 168]], float)


def mix(first: ArrayLike, second: ArrayLike, weight: float) -> np.ndarray:
    """Interpolate linearly from the first colour, at weight 0, to the second, at weight 1."""
    return np.asarray(first, float) * (1.0 - weight) + np.asarray(second, float) * weight


def blend_colours(colours: np.ndarray, position: float) -> np.ndarray:
    """Return the colour at a position, 0 .. 1, along a scale of colours (n, 3)."""
    at = position * (len(colours) - 1)
    first = min(int(at), len(colours) - 2)
    return mix(colours[first], colours[first + 1], at - first)


def make_palette(identity: Identity) -> Palette:
    """Return the colours of a face under even light."""
    skin = blend_colours(_SKINS, identity.melanin) + np.array([4.0, -3.0, -4.0]) * identity.skin_redness
    hair = blend_colours(_HAIRS, identity.hair_tone)
    hair = mix(hair, hair * (1.3, 0.88, 0.7), 4.0 * identity.hair_red * identity.hair_tone * (1.0 - identity.hair_tone))
    lip = mix(skin * (0.92, 0.74, 0.72), (176, 62, 66), 0.15 + 0.5 * identity.lip_redness)
    return Palette(
        skin=skin,
        ear=skin * (0.95, 0.86, 0.84),
        fold=skin * (0.66, 0.58, 0.55),
        brow=mix(hair * 0.75, skin * 0.4, 0.25),
        lash=skin * 0.12 + 12.0,
        hair=hair,
        hair_light=mix(hair, (255, 235, 200), 0.16),
        hair_dark=hair * 0.72,
        upper_lip=lip * 0.88,
        lower_lip=lip,
        mouth_line=lip * 0.42,
        nostril=skin * (0.4, 0.3, 0.28),
        eyeball=np.array([232.0, 228.0, 222.0]),
        teeth=np.array([236.0, 232.0, 222.0]),
    )
