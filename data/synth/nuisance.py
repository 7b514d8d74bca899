"""Differences between two images of one identity: pose, expression, light, eyewear, occlusion, and the camera."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Condition(NamedTuple):
    """Conditions under which an image is taken."""

    yaw: float  # radians
    pitch: float
    roll: float
    shift: np.ndarray  # float (2,): pixels to the right and down
    scale: float
    mouth_open: float  # pixels of the crop
    smile: float
    brow_raise: float
    eye_closure: float  # 0: open, 1: closed
    gaze: np.ndarray  # float (2,), -1 .. 1: to the side and down
    light_direction: np.ndarray  # float (3,): unit vector towards the light
    light_strength: float
    gain: float
    gamma: float
    temperature: float  # log of the gain of red, and of the inverse gain of blue
    tint: float  # log of the gain of green
    eyewear: str  # "", "glasses" or "sunglasses"
    occluder: str  # "", "patch" or "hand"
    hair_change: np.ndarray  # float (3,), standard normal
    blur: float  # sigma in pixels
    noise: float  # sigma in grey levels
    quality: int  # of the JPEG, 1 .. 100


def sample_condition(random: np.random.Generator) -> Condition:
    """Sample the conditions of one image."""
    light = random.normal(0.0, 1.0, 3) * (0.9, 0.6, 0.3) + (0.0, -0.25, 0.75)
    closed = random.random()
    return Condition(
        yaw=float(np.clip(random.normal(0.0, 0.14), -0.32, 0.32)),
        pitch=float(np.clip(random.normal(0.0, 0.08), -0.18, 0.18)),
        roll=float(random.normal(0.0, 0.045)),
        shift=random.normal(0.0, 1.0, 2),
        scale=float(np.exp(random.normal(0.0, 0.03))),
        mouth_open=float(random.uniform(1.0, 7.0)) if random.random() < 0.3 else 0.0,
        smile=float(random.uniform(0.2, 1.0)) if random.random() < 0.5 else float(random.uniform(-0.2, 0.2)),
        brow_raise=float(random.normal(0.0, 1.0)),
        eye_closure=1.0 if closed < 0.03 else float(random.uniform(0.3, 0.65)) if closed < 0.15 else closed * 0.2,
        gaze=random.normal(0.0, 0.35, 2).clip(-1.0, 1.0),
        light_direction=light / np.linalg.norm(light),
        light_strength=float(random.uniform(0.1, 0.7)),
        gain=float(np.exp(random.normal(-0.05, 0.2))),
        gamma=float(np.exp(random.normal(0.0, 0.2))),
        temperature=float(random.normal(0.0, 0.11)),
        tint=float(random.normal(0.0, 0.05)),
        eyewear=_choose(random, glasses=0.08, sunglasses=0.01),
        occluder=_choose(random, patch=0.03, hand=0.03),
        hair_change=random.normal(0.0, 1.0, 3),
        blur=float(random.uniform(0.4, 1.1)) if random.random() < 0.35 else 0.0,
        noise=float(random.uniform(0.0, 6.0)),
        quality=int(random.integers(40, 96)),
    )


def _choose(random: np.random.Generator, **shares: float) -> str:
    """Return one of the names, each with the given probability, otherwise an empty string."""
    draw = random.random()
    for name, share in shares.items():
        if draw < share:
            return name
        draw -= share
    return ""


def draw_background(random: np.random.Generator, side: int) -> np.ndarray:
    """Return a backdrop of random colours and coarse texture, uint8 (side, side, 3)."""
    cells = int(random.integers(2, 9))
    base = random.uniform(20.0, 235.0, 3)
    spread = random.uniform(8.0, 70.0)
    coarse = np.clip(base + random.normal(0.0, spread, (cells, cells, 3)), 0, 255).astype(np.uint8)
    way = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[int(random.integers(3))]
    return cv2.resize(coarse, (side, side), interpolation=way)


def relight(image: np.ndarray, relief: np.ndarray, condition: Condition) -> np.ndarray:
    """Apply the light, gain, gamma, temperature and tint of a condition to an image.

    `image` is an evenly lit RGB image, uint8 (n, n, 3). `relief`, uint8 (n, n), is the local brightness that the shape of
    the face causes; 128 is neutral. Returns grey levels, float32 (n, n, 3), that are not clipped yet.
    """
    side = len(image)
    light: np.ndarray = cv2.resize(_light(condition).astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    light *= relief * np.float32(condition.gain / 128.0)
    colour = np.exp(np.array([condition.temperature, condition.tint, -condition.temperature]))
    table = 255.0 * (np.arange(256) / 255.0) ** condition.gamma
    values = cv2.LUT(image, np.outer(table, colour).astype(np.float32)[None])
    return values * light[:, :, None]


def _light(condition: Condition) -> np.ndarray:
    """Return the light on each place of a round head: float64 (28, 28), 1 is neutral."""
    grid = (np.arange(28, dtype=np.float32) - 13.5) / 14.0
    x, y = grid[None, :] / 0.95, grid[:, None] / 1.1
    z = np.sqrt(np.maximum(1.0 - x * x - y * y, 0.03))
    # Arrays, not numbers: a float64 number times a float32 array is float32 on NumPy 1 and float64 on NumPy 2.
    right, down, out = condition.light_direction.reshape(3, 1, 1)
    facing = (x * right + y * down + z * out) / np.sqrt(x * x + y * y + z * z)
    return 1.0 + condition.light_strength * (1.1 * np.maximum(facing, -0.15) - 0.65)


def photograph(values: np.ndarray, condition: Condition, random: np.random.Generator) -> np.ndarray:
    """Add the blur and noise of a camera: grey levels, float32 (n, n, 3), to a uint8 image of that shape."""
    if condition.blur:
        values = cv2.GaussianBlur(values, (0, 0), condition.blur)
    if condition.noise:
        values = values + random.standard_normal(values.shape, np.float32) * np.float32(condition.noise)
    return np.clip(values, 0, 255).astype(np.uint8)
