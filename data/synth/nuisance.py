"""What differs between two pictures of one person: pose, expression, light, what is worn, and the camera."""

import collections

import cv2
import numpy as np

_FIELDS = (
    "yaw pitch roll shift scale mouth_open smile brow_raise eye_closure gaze light_direction light_strength gain gamma "
    "temperature tint eyewear occluder hair_change blur noise quality"
)
Condition = collections.namedtuple("Condition", _FIELDS.split())
Condition.__doc__ = """What a picture was taken under.

Angles are radians, `shift` two pixels, `light_direction` a unit vector towards the light, `temperature` and `tint` logs
of colour gains, `eyewear` one of "", "glasses", "sunglasses", `occluder` one of "", "patch", "hand", `blur` a sigma in
pixels, `noise` a sigma in grey levels, `quality` that of the JPEG.
"""


def sample_condition(random: np.random.Generator) -> Condition:
    """Draws what one picture is taken under."""
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


def _choose(random, **shares):
    """One of the names, each with its share of the pictures, else an empty text."""
    draw = random.random()
    for name, share in shares.items():
        if draw < share:
            return name
        draw -= share
    return ""


def draw_background(random: np.random.Generator, side: int) -> np.ndarray:
    """A backdrop of random colours and coarse texture, uint8 (side, side, 3)."""
    cells = int(random.integers(2, 9))
    base = random.uniform(20.0, 235.0, 3)
    spread = random.uniform(8.0, 70.0)
    coarse = np.clip(base + random.normal(0.0, spread, (cells, cells, 3)), 0, 255).astype(np.uint8)
    way = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[int(random.integers(3))]
    return cv2.resize(coarse, (side, side), interpolation=way)


def relight(picture: np.ndarray, relief: np.ndarray, condition: Condition) -> np.ndarray:
    """Puts a picture under a condition's light.

    Parameters
    ----------
    picture : uint8 (n, n, 3)
        RGB, evenly lit.
    relief : uint8 (n, n)
        Local brightness that the shape of the face makes; 128 is neutral.
    condition : Condition
        Its light, gain, gamma, temperature and tint are used.

    Returns
    -------
    float32 (n, n, 3)
        Grey levels, not yet clipped.
    """
    side = len(picture)
    light = cv2.resize(_light(condition).astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    light *= relief * np.float32(condition.gain / 128.0)
    colour = np.exp(np.array([condition.temperature, condition.tint, -condition.temperature]))
    table = 255.0 * (np.arange(256) / 255.0) ** condition.gamma
    values = cv2.LUT(picture, np.outer(table, colour).astype(np.float32)[None])
    return values * light[:, :, None]


def _light(condition):
    """How brightly a condition lights each place of a round head: float64 (28, 28), 1 is neutral."""
    grid = (np.arange(28, dtype=np.float32) - 13.5) / 14.0
    x, y = grid[None, :] / 0.95, grid[:, None] / 1.1
    z = np.sqrt(np.maximum(1.0 - x * x - y * y, 0.03))
    # Arrays, not numbers: a float64 number times a float32 array is float32 on NumPy 1 and float64 on NumPy 2.
    right, down, out = condition.light_direction.reshape(3, 1, 1)
    facing = (x * right + y * down + z * out) / np.sqrt(x * x + y * y + z * z)
    return 1.0 + condition.light_strength * (1.1 * np.maximum(facing, -0.15) - 0.65)


def photograph(values: np.ndarray, condition: Condition, random: np.random.Generator) -> np.ndarray:
    """Blur and noise of a camera: float32 (n, n, 3) grey levels as a uint8 picture."""
    if condition.blur:
        values = cv2.GaussianBlur(values, (0, 0), condition.blur)
    if condition.noise:
        values = values + random.standard_normal(values.shape, np.float32) * np.float32(condition.noise)
    return np.clip(values, 0, 255).astype(np.uint8)
