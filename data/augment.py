"""Augmentations of the lineage, each a function of an image and a random generator.

An image is a uint8 array (height, width, 3), RGB. Each sample has its own generator, so that its augmentation depends
neither on threads nor on the update at which a run was resumed. Other packages add augmentations by
`register_augmentation`, or by entry points of the group ``vargfacenet.augmentations``.
"""

import dataclasses
import inspect
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Callable, Union

import cv2
import numpy as np

from vargfacenet.errors import SettingError
from vargfacenet.formats.images import decode_image, encode_jpeg
from vargfacenet.options import About, Setting, check_options, declared_settings
from vargfacenet.registry import Registry, import_or_run

_RED, _GREEN, _BLUE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class AugmentationSettings:
    """Augmentation."""

    mirror: Annotated[bool, About("Mirror half of the images; the only augmentation of the paper.")] = True
    shift: Annotated[
        int,
        About(
            "Most pixels by which an image is moved along each axis; the border is repeated. For faces that are aligned "
            "less well than those of the training set.",
            low=0,
            high=56,
            unit="pixels",
        ),
    ] = 0
    color_jitter: Annotated[
        float,
        About("Brightness, contrast and saturation are each multiplied by 1 +- up to this.", low=0, high=1),
    ] = 0.0
    cutoff: Annotated[
        int,
        About("Side of a grey square on half of the images; 0 for none.", low=0, high=112, unit="pixels"),
    ] = 0
    compress: Annotated[
        float, About("Share of the images that pass through JPEG at a quality of 20 to 90.", low=0, high=1)
    ] = 0.0


@dataclasses.dataclass(frozen=True)
class RegisteredAugmentation:
    """An augmentation from another package: ``apply(image, random, **options)`` returns the changed image."""

    name: str
    apply: Callable[..., np.ndarray]
    options: dict[str, Setting]

    def __call__(self, image: np.ndarray, random: np.random.Generator, options: dict[str, Any]) -> np.ndarray:
        """Return the changed image; SettingError if it differs from the given image in shape or type."""
        changed = self.apply(image, random, **options)
        if getattr(changed, "shape", None) != image.shape or changed.dtype != np.uint8:
            given = f"{getattr(changed, 'dtype', type(changed).__name__)} {getattr(changed, 'shape', '')}".strip()
            raise SettingError(f"augmentation {self.name} returned {given}: expected uint8 {image.shape}")
        return changed

    def __reduce__(self) -> tuple[Any, ...]:
        # As a name: what the options declare need not be of a kind that can be pickled.
        if not isinstance(self.apply, types.FunctionType):
            return _make, (self.name, self.apply)
        if "<locals>" in self.apply.__qualname__:
            raise SettingError(
                f"augmentation {self.name} is defined within a function, where other processes do not find it: define it at "
                "the top of a module, or give readers=0"
            )
        module = self.apply.__module__
        return _registered, (self.name, module, getattr(sys.modules.get(module), "__file__", None))


def _registered(name: str, module: str, file: Union[str, os.PathLike[str], None]) -> RegisteredAugmentation:
    """Return an augmentation in a process that has not run the module, or the recipe file, that registers it."""
    import_or_run(module, file)
    return AUGMENTATIONS[name]


def _make(name: str, function: Callable[..., np.ndarray]) -> RegisteredAugmentation:
    parameters = inspect.signature(function).parameters.values()
    positional = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 2:
        raise SettingError(
            f"augmentation {name} takes ({', '.join(positional)}): expected (image, random), and options after *"
        )
    return RegisteredAugmentation(name, function, declared_settings(function))


AUGMENTATIONS: Registry[RegisteredAugmentation] = Registry("augmentation", "vargfacenet.augmentations", _make)


def register_augmentation(name: Union[str, Callable[..., np.ndarray], None] = None) -> Any:
    """Add an augmentation: a decorator, with or without a name; the function's own name is taken by default.

    The function takes an image, uint8 (height, width, 3), RGB, and a ``numpy.random.Generator`` for all its random
    numbers, and returns a new image of the same shape and type. Its keyword-only options, each with type and default,
    become settings. The setting ``augmentations`` turns it on. It must not mirror images: a teacher's stored embeddings
    cover only the built-in mirror.

    Raises
    ------
    SettingError
        If the function has other parameters, or the name is taken.
    """

    def register(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        given = name if isinstance(name, str) else function.__name__
        AUGMENTATIONS.add(given, _make(given, function), source=function.__module__)
        return function

    return register(name) if callable(name) else register


@dataclasses.dataclass(frozen=True)
class Augmentation(AugmentationSettings):
    """Settings of the augmentation of a training set, see `AugmentationSettings`, and the function that applies it.

    Attributes
    ----------
    registered
        Names of registered augmentations with their options; they are applied last, in this order.

    Raises
    ------
    SettingError
        If a name is unknown, or a value has another type or is out of range.
    """

    registered: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        for name, setting in declared_settings(AugmentationSettings).items():
            object.__setattr__(self, name, setting.check(getattr(self, name)))
        others = []
        for name, options in self.registered:
            found = AUGMENTATIONS[name]
            others.append((found, check_options(found.options, options, owner=name)))
        object.__setattr__(self, "_others", tuple(others))

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, bool]:
        """Return the augmented image, and True if it is mirrored: a teacher's stored embeddings cover mirrored images."""
        mirrored = bool(self.mirror and random.random() < 0.5)
        if mirrored:
            image = mirror(image)
        if self.shift:
            image = move(image, *random.integers(-self.shift, self.shift + 1, 2))
        if self.color_jitter:
            image = jitter_color(image, self.color_jitter, random)
        if self.compress and random.random() < self.compress:
            image = compress(image, int(random.integers(20, 91)))
        if self.cutoff and random.random() < 0.5:
            image = cut_off(image, self.cutoff, random)
        for other, options in self._others:
            image = other(image, random, options)
        return image, mirrored

    _others: Any = dataclasses.field(default=(), init=False, repr=False, compare=False)


def mirror(image: np.ndarray) -> np.ndarray:
    """Exchange left and right."""
    return cv2.flip(image[:, :, ::-1], 1)[:, :, ::-1]  # blue first, as decoded: OpenCV need not copy the image


def move(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Translate an image by whole pixels and repeat its border."""
    height, width = image.shape[:2]
    above, below, left, right_of = max(down, 0), max(-down, 0), max(right, 0), max(-right, 0)
    # Blue first, as in `mirror`.
    wider = cv2.copyMakeBorder(image[:, :, ::-1], above, below, left, right_of, cv2.BORDER_REPLICATE)
    return wider[below : below + height, right_of : right_of + width, ::-1]


def jitter_color(image: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Multiply brightness, contrast and saturation, each by a factor in 1 - amount .. 1 + amount."""
    brightness, contrast, saturation = random.uniform(1 - amount, 1 + amount, 3).astype(np.float32)
    # Blue first, as in `mirror`.
    planes = [plane.astype(np.float32) * brightness for plane in cv2.split(image[:, :, ::-1])]
    # A difference in the last digit can become one grey level below. The float32 sum depends on the order of addition,
    # which NumPy has changed since 1.23. The float64 sum of so few float32 numbers is exact in any order.
    mean = float(_luma(planes).mean(dtype=np.float64))
    planes = [mean + (plane - mean) * contrast for plane in planes]
    grey = _luma(planes)
    changed = [np.clip(grey + (plane - grey) * saturation, 0, 255).astype(np.uint8) for plane in planes]
    return cv2.merge(changed)[:, :, ::-1]


def _luma(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the luma of planes in the order blue, green, red.

    Not a matrix product, whose rounding depends on the BLAS and the CPU.
    """
    blue, green, red = planes
    return red * _RED + green * _GREEN + blue * _BLUE


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress an image as JPEG, with a quality of 1 .. 100, and decode it."""
    return decode_image(encode_jpeg(image, quality=quality), "compressed image", shape=None)


def cut_off(image: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Put a grey square (128) of `side` pixels, centred at a random pixel and clipped by the border, on a copy."""
    height, width = image.shape[:2]
    top, left = int(random.integers(0, height)) - side // 2, int(random.integers(0, width)) - side // 2
    image = image.copy()
    image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 128
    return image
