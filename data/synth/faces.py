"""Sets of drawn faces: images by identity, pairs for verification, and a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from vargfacenet.data.synth.draw import draw_face
from vargfacenet.data.synth.identity import sample_identity
from vargfacenet.data.synth.nuisance import sample_condition
from vargfacenet.data.synth.pose import SIDE
from vargfacenet.errors import SettingError
from vargfacenet.options import check_range

NUM_FOLDS = 10


def draw_faces(
    *, num_identities: int, images_per_identity: int, seed: int = 0, first_identity: int = 0, size: int = SIDE
) -> Iterator[tuple[int, bytes]]:
    """Draw a training set: the number of the identity, from `first_identity` on, and a JPEG for each image.

    Images come identity by identity. Seed, identity and number of an image alone decide what it shows. Two sets of the
    same seed share no identity if their ranges of identities do not overlap.

    Parameters
    ----------
    num_identities, images_per_identity
        At least 1.
    seed, first_identity
        At least 0.
    size
        Side of the images in pixels, at least 16.

    Raises
    ------
    SettingError
        If a number is out of range; raised by the call, not by the first image.
    """
    check_range("num_identities", num_identities, 1)
    check_range("images_per_identity", images_per_identity, 1)
    check_range("seed", seed, 0)
    check_range("first_identity", first_identity, 0)
    check_range("size", size, 16, None, "pixels")
    return (
        (number, _encode(*_draw(seed, number, image), size))
        for number in range(first_identity, first_identity + num_identities)
        for image in range(images_per_identity)
    )


def draw_pairs(
    *,
    num_identities: int,
    images_per_identity: int,
    num_pairs: int,
    seed: int = 0,
    first_identity: int,
    size: int = SIDE,
) -> tuple[list[bytes], list[bool]]:
    """Draw a verification set of ten folds in order, each half pairs of one identity and half pairs of different identities.

    Returns 2 * num_pairs JPEGs, of which images 2i and 2i + 1 are pair i, and for each pair True if it shows one identity.

    Parameters
    ----------
    num_identities
        Identities to draw from, at least 2. From 20 on, no identity appears in two folds.
    images_per_identity
        At least 2.
    num_pairs
        A multiple of 20.
    seed
        The seed of the training set.
    first_identity
        Number of the first identity. To share none with the training set, give at least its number of identities.
    size
        Side of the images in pixels, at least 16.

    Raises
    ------
    SettingError
        If a number is out of range, or a fold has too few images for the pairs.
    """
    check_range("num_identities", num_identities, 2)
    check_range("images_per_identity", images_per_identity, 2)
    check_range("num_pairs", num_pairs, 2 * NUM_FOLDS)
    check_range("seed", seed, 0)
    check_range("first_identity", first_identity, 0)
    check_range("size", size, 16, None, "pixels")
    if num_pairs % (2 * NUM_FOLDS):
        raise SettingError(f"num_pairs={num_pairs}: expected a multiple of {2 * NUM_FOLDS}, for ten balanced folds")
    identities = np.arange(first_identity, first_identity + num_identities)
    disjoint = num_identities >= 2 * NUM_FOLDS
    random = _generator(seed, first_identity, num_identities, images_per_identity)
    drawn: dict[tuple[int, int], bytes] = {}
    images: list[bytes] = []
    is_same: list[bool] = []
    for fold in range(NUM_FOLDS):
        members = identities[fold::NUM_FOLDS] if disjoint else identities
        half = num_pairs // (2 * NUM_FOLDS)
        for same in (True, False):
            for pair in _choose_pairs(members, images_per_identity, half, same, random):
                for number, image in pair:
                    if (number, image) not in drawn:
                        drawn[number, image] = _encode(*_draw(seed, number, image), size)
                    images.append(drawn[number, image])
                is_same.append(same)
    return images, is_same


def contact_sheet(rows: int = 8, columns: int = 8, seed: int = 0, first_identity: int = 0) -> np.ndarray:
    """Draw images in a grid, one identity per row: uint8 (rows * 112, columns * 112, 3), RGB."""
    check_range("rows", rows, 1)
    check_range("columns", columns, 1)
    identities = range(first_identity, first_identity + rows)
    return np.concatenate(
        [np.concatenate([_draw(seed, number, image)[0] for image in range(columns)], axis=1) for number in identities]
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def _draw(seed: int, number: int, image: int) -> tuple[np.ndarray, int]:
    """Draw an image, uint8 (112, 112, 3), RGB; also returns the quality of its JPEG."""
    identity = sample_identity(_generator(seed, number))
    random = _generator(seed, number, image)
    condition = sample_condition(random)
    return draw_face(identity, condition, random), condition.quality


def _encode(image: np.ndarray, quality: int, size: int) -> bytes:
    if size != SIDE:
        interpolation = cv2.INTER_AREA if size < SIDE else cv2.INTER_LINEAR
        image = cv2.resize(image, (size, size), interpolation=interpolation)
    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


_Face = tuple[int, int]  # numbers of the identity and of the image


def _choose_pairs(
    members: np.ndarray, images: int, count: int, same: bool, random: np.random.Generator
) -> list[tuple[_Face, _Face]]:
    """Choose distinct pairs of images, of one or of two of the members, uniformly."""
    identities = len(members)
    available = math.comb(images, 2) * identities if same else math.comb(identities, 2) * images**2
    if count > available:
        kind = "same" if same else "different"
        raise SettingError(
            f"num_pairs={count * 2 * NUM_FOLDS}: a fold of {identities} identities with {images} images each has only "
            f"{available} {kind} pairs, {count} are needed; raise num_identities or images_per_identity"
        )
    chosen: dict[tuple[_Face, _Face], None] = {}
    while len(chosen) < count:
        first = int(random.integers(identities))
        second = first if same else int((first + random.integers(1, identities)) % identities)
        one, other = (
            (int(image) for image in random.choice(images, 2, replace=False))
            if same
            else (int(random.integers(images)), int(random.integers(images)))
        )
        pair = sorted([(int(members[first]), one), (int(members[second]), other)])
        chosen[pair[0], pair[1]] = None
    return list(chosen)
