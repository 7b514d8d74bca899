"""Sets of drawn faces: images by identity, pairs for verification, and a sheet to look at."""

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
    """Draws a training set.

    The image of a seed, identity and image number is the same whatever else is drawn.

    Parameters
    ----------
    num_identities : int
        People, at least 1.
    images_per_identity : int
        Images of each, at least 1.
    seed : int
        At least 0; another seed gives other people.
    first_identity : int
        Number of the first person, at least 0. Sets of one seed are disjoint where these ranges are.
    size : int
        Side in pixels, at least 16.

    Returns
    -------
    iterator of (int, bytes)
        Number of the identity, from `first_identity`, and an image of it as JPEG; identity after identity.

    Raises
    ------
    SettingError
        Where a number is out of range; at the call, not at the first image.
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
    """Draws pairs for verification, in ten folds one after the other, each half same and half different people.

    Parameters
    ----------
    num_identities : int
        People to draw from, at least 2. From 20 on, no one appears in two folds.
    images_per_identity : int
        Images of each, at least 2.
    num_pairs : int
        A multiple of 20.
    seed : int
        That of the training set.
    first_identity : int
        Number of the first person: at least the number of identities of the training set, to keep off them.
    size : int
        Side in pixels.

    Returns
    -------
    images : list of bytes
        JPEG, twice `num_pairs`: images 2i and 2i + 1 are pair i.
    is_same : list of bool
        Whether pair i shows one person.

    Raises
    ------
    SettingError
        Where a number is out of range, or a fold has too few images for that many different pairs.
    """
    check_range("num_identities", num_identities, 2)
    check_range("images_per_identity", images_per_identity, 2)
    check_range("num_pairs", num_pairs, 2 * NUM_FOLDS)
    check_range("seed", seed, 0)
    check_range("first_identity", first_identity, 0)
    check_range("size", size, 16, None, "pixels")
    if num_pairs % (2 * NUM_FOLDS):
        raise SettingError(f"num_pairs={num_pairs}: expected a multiple of {2 * NUM_FOLDS}, for ten balanced folds")
    people = np.arange(first_identity, first_identity + num_identities)
    disjoint = num_identities >= 2 * NUM_FOLDS
    random = _generator(seed, first_identity, num_identities, images_per_identity)
    drawn, images, is_same = {}, [], []
    for fold in range(NUM_FOLDS):
        members = people[fold::NUM_FOLDS] if disjoint else people
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
    """Images side by side, one identity a row: uint8 RGB (rows * 112, columns * 112, 3)."""
    check_range("rows", rows, 1)
    check_range("columns", columns, 1)
    people = range(first_identity, first_identity + rows)
    return np.concatenate(
        [np.concatenate([_draw(seed, number, image)[0] for image in range(columns)], axis=1) for number in people]
    )


def _generator(seed, *key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def _draw(seed, number, image):
    """An image, uint8 (112, 112, 3) RGB, and the quality of its JPEG."""
    identity = sample_identity(_generator(seed, number))
    random = _generator(seed, number, image)
    condition = sample_condition(random)
    return draw_face(identity, condition, random), condition.quality


def _encode(image, quality, size):
    if size != SIDE:
        way = cv2.INTER_AREA if size < SIDE else cv2.INTER_LINEAR
        image = cv2.resize(image, (size, size), interpolation=way)
    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _choose_pairs(members, images, count, same, random):
    """`count` distinct pairs of (identity, image), of one or of two of the members; as even as chance allows."""
    people = len(members)
    available = people * images * (images - 1) // 2 if same else people * (people - 1) // 2 * images * images
    if count > available:
        kind = "same" if same else "different"
        raise SettingError(
            f"num_pairs={count * 2 * NUM_FOLDS}: a fold of {people} identities with {images} images each has only "
            f"{available} {kind} pairs, {count} are needed; raise num_identities or images_per_identity"
        )
    chosen = {}
    while len(chosen) < count:
        first = int(random.integers(people))
        second = first if same else int((first + random.integers(1, people)) % people)
        one, other = (
            (int(image) for image in random.choice(images, 2, replace=False))
            if same
            else (int(random.integers(images)), int(random.integers(images)))
        )
        pair = tuple(sorted([(int(members[first]), one), (int(members[second]), other)]))
        chosen[pair] = None
    return list(chosen)
