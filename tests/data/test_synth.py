"""Built-in face set: reproducible, and a task that needs learning and can be learnt."""

import hashlib
import itertools
import math

import cv2
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from vargfacenet.data.synth import contact_sheet, draw_faces, draw_pairs
from vargfacenet.data.synth.faces import _generator
from vargfacenet.data.synth.identity import sample_identity
from vargfacenet.data.synth.nuisance import _light, sample_condition
from vargfacenet.errors import SettingError

TRAIN_IDENTITIES = 50
CELL, BINS = 8, 9  # pixels on a side, directions


def decode(encoded):
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(scope="module")
def train_set():
    return list(draw_faces(num_identities=TRAIN_IDENTITIES, images_per_identity=9))


@pytest.fixture(scope="module")
def pairs():
    images, is_same = draw_pairs(
        num_identities=60, images_per_identity=4, num_pairs=400, first_identity=TRAIN_IDENTITIES
    )
    return images, np.array(is_same)


def best_accuracy(features, is_same):
    """Return the accuracy of the best threshold on the cosine of features (2n, d)."""
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = (features[::2] * features[1::2]).sum(axis=1)
    return max(np.mean((similarity >= threshold) == is_same) for threshold in [*similarity, np.inf])


def raw_accuracy(images, is_same, *, standardised):
    pixels = np.stack([decode(image).ravel() for image in images]).astype(np.float32)
    if standardised:
        pixels = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    return best_accuracy(pixels - pixels.mean(axis=0), is_same)


def hog(images):
    """Histograms of oriented gradients [Dalal and Triggs, CVPR 2005] of cells, each block of 2x2 cells L2-normalised."""
    return np.stack([hog_of(cv2.cvtColor(decode(image), cv2.COLOR_BGR2GRAY).astype(np.float32)) for image in images])


def hog_of(grey):
    down, right = np.gradient(grey)
    length, direction = np.hypot(down, right), np.arctan2(down, right) % np.pi * BINS / np.pi
    low = np.floor(direction).astype(int) % BINS
    share = direction - np.floor(direction)
    cells = np.zeros((*(side // CELL for side in grey.shape), BINS))
    rows, columns = np.indices(grey.shape) // CELL
    np.add.at(cells, (rows, columns, low), length * (1 - share))
    np.add.at(cells, (rows, columns, (low + 1) % BINS), length * share)
    blocks = np.concatenate([cells[:-1, :-1], cells[1:, :-1], cells[:-1, 1:], cells[1:, 1:]], axis=2)
    return (blocks / (np.linalg.norm(blocks, axis=2, keepdims=True) + 1)).ravel()


def parameter_fingerprint(parameters):
    """A fingerprint of sampled parameters to six decimals, in which the last bits of a platform's exp() do not count."""
    values = (
        value if isinstance(value, str) else np.round(np.asarray(value, float), 6).ravel() for value in parameters
    )
    text = " ".join(
        f"{name}={value if isinstance(value, str) else value.tolist()}"
        for name, value in zip(parameters._fields, values)
    )
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


# Recorded at commit 4ab2856.
IDENTITIES = ["b8ee6bf9fab78ef9", "8713b84e748366cf", "28ae34b737b8f59f"]
CONDITIONS = ["caafee37f7d65b0e", "2995d3f6e867bff9", "defcfbaddf23ff98"]
# Mean grey levels of tiles of 28x28 pixels, of two identities with three images each.
SHEET = """
147.2  36.4  39.8 152.9  69.7  27.8  29.2  98.8  60.7  34.0  44.5 138.9
108.9  90.1 103.1 127.4  72.9  82.6  83.0  91.7  61.1  77.6  94.5 163.5
115.6  99.7 112.9 125.8  69.9  85.6  84.9  81.0  63.8  87.9 110.1 148.2
106.0  54.2  72.7 102.2  54.9  52.5  46.1  73.0  46.1  65.8  68.5 153.7
149.4 182.0 173.0 118.9  58.9 164.6 184.2 110.5  76.9 172.6 157.1  48.2
176.3 175.0 173.9 134.6  94.5 169.9 187.2 141.4  92.2 198.5 183.1  90.2
169.4 194.8 198.1 114.5  83.4 167.0 191.1 131.6 110.7 220.2 201.1  92.7
132.9 169.7 153.9 130.3  49.1 104.4 116.8  87.6  48.0 167.3 154.4  52.2
"""


def test_a_seed_samples_the_same_parameters_as_in_earlier_versions():
    assert [parameter_fingerprint(sample_identity(_generator(0, number))) for number in range(3)] == IDENTITIES
    assert [parameter_fingerprint(sample_condition(_generator(0, number, 0))) for number in range(3)] == CONDITIONS


def test_a_seed_draws_the_same_faces_as_in_earlier_versions():
    grey = contact_sheet(rows=2, columns=3).mean(axis=2)
    tiles = grey.reshape(8, 28, 12, 28).mean(axis=(1, 3))
    recorded = np.array([line.split() for line in SHEET.split("\n") if line], float)
    assert np.abs(tiles - recorded).max() < 1  # grey level; OpenCV's versions differ by less


def test_drawing_again_gives_the_same_bytes():
    first = list(draw_faces(num_identities=2, images_per_identity=2, seed=3))
    assert first == list(draw_faces(num_identities=2, images_per_identity=2, seed=3))


def test_light_is_computed_in_float64_with_every_numpy():
    condition = sample_condition(np.random.default_rng(5))
    light = _light(condition)
    assert light.dtype == np.float64
    right, down, out = condition.light_direction.tolist()
    for row, column in [(0, 0), (7, 20), (13, 14), (27, 3)]:
        # The place is rounded to float32, what is computed of it is not; float32 would be off by some 1e-7.
        x = float((np.float32(column) - np.float32(13.5)) / np.float32(14) / np.float32(0.95))
        y = float((np.float32(row) - np.float32(13.5)) / np.float32(14) / np.float32(1.1))
        squares = np.float32(x) * np.float32(x), np.float32(y) * np.float32(y)
        height = np.sqrt(np.maximum(np.float32(1) - squares[0] - squares[1], np.float32(0.03)))
        length = float(np.sqrt(squares[0] + squares[1] + height * height))
        facing = max((x * right + y * down + float(height) * out) / length, -0.15)
        expected = 1 + condition.light_strength * (1.1 * facing - 0.65)
        assert math.isclose(light[row, column], expected, rel_tol=1e-12)


def test_an_image_does_not_depend_on_what_else_is_drawn(train_set):
    alone = list(draw_faces(num_identities=1, images_per_identity=3, first_identity=7))
    assert alone == [item for item in train_set if item[0] == 7][:3]


def test_identities_count_from_the_first_and_come_in_order():
    numbers = [number for number, _ in draw_faces(num_identities=3, images_per_identity=2, first_identity=40)]
    assert numbers == [40, 40, 41, 41, 42, 42]


def test_another_seed_gives_other_images(train_set):
    other = next(draw_faces(num_identities=1, images_per_identity=1, seed=1))
    assert other[1] not in {image for _, image in train_set}


def test_no_two_images_are_alike(train_set):
    assert len({image for _, image in train_set}) == len(train_set)


@pytest.mark.parametrize("size", [112, 64, 128])
def test_images_decode_to_the_size_asked_for(size):
    _, image = next(draw_faces(num_identities=1, images_per_identity=1, size=size))
    assert decode(image).shape == (size, size, 3)


def test_contact_sheet_shows_one_identity_per_row(train_set):
    sheet = contact_sheet(rows=2, columns=3)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 112, 3 * 112, 3)
    second = decode([image for number, image in train_set if number == 1][2])[:, :, ::-1]
    shown = sheet[112:, 224:].astype(float)
    assert np.abs(shown - second).mean() < 12  # what JPEG changes; another image of the sheet is above 30


def test_pairs_come_in_ten_balanced_folds(pairs):
    images, is_same = pairs
    assert len(images) == 2 * len(is_same) == 800
    assert (is_same.reshape(10, 40).sum(axis=1) == 20).all()


def test_pairs_share_no_identity_with_the_training_set_and_are_labelled_correctly(pairs):
    images, is_same = pairs
    faces = draw_faces(num_identities=60, images_per_identity=4, first_identity=TRAIN_IDENTITIES)
    owner = {image: number for number, image in faces}
    numbers = np.array([owner[image] for image in images])  # a KeyError: an image of someone else
    assert ((numbers[::2] == numbers[1::2]) == is_same).all()
    folds = [set(fold) for fold in numbers.reshape(10, 80).tolist()]
    assert not any(one & other for one, other in itertools.combinations(folds, 2))


def test_no_pair_comes_twice_or_holds_one_image_twice(pairs):
    images, _ = pairs
    couples = {frozenset(couple) for couple in zip(images[::2], images[1::2])}
    assert len(couples) == 400
    assert all(len(couple) == 2 for couple in couples)


@pytest.mark.parametrize("standardised", [False, True])
def test_raw_pixels_do_not_tell_identities_apart(pairs, standardised):
    assert raw_accuracy(*pairs, standardised=standardised) < 0.75


def test_a_weak_learner_recognises_unseen_identities_far_better_than_raw_pixels(train_set, pairs):
    numbers, train_images = zip(*train_set)
    images, is_same = pairs
    seen = hog(train_images)
    with threadpool_limits(1):  # on a busy machine BLAS threads wait for one another far longer than one thread works
        reduction = PCA(150, svd_solver="randomized", random_state=0).fit(seen)
        learner = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1, n_components=40)
        learner.fit(reduction.transform(seen), numbers)
        embedded = learner.transform(reduction.transform(hog(images)))
    learnt = best_accuracy(embedded, is_same)
    assert learnt > 0.85
    assert learnt > raw_accuracy(images, is_same, standardised=True) + 0.12


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_identities": 0}, "num_identities=0: expected at least 1"),
        ({"images_per_identity": 0}, "images_per_identity=0: expected at least 1"),
        ({"seed": -1}, "seed=-1: expected at least 0"),
        ({"first_identity": -2}, "first_identity=-2: expected at least 0"),
        ({"size": 8}, "size=8: expected at least 16 pixels"),
    ],
)
def test_numbers_out_of_range_are_refused_at_the_call(changed, message):
    with pytest.raises(SettingError, match=message):
        draw_faces(**{"num_identities": 1, "images_per_identity": 1, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_pairs": 30}, "num_pairs=30: expected a multiple of 20"),
        ({"num_identities": 1}, "num_identities=1: expected at least 2"),
        ({"images_per_identity": 1}, "images_per_identity=1: expected at least 2"),
        ({"num_pairs": 200}, "num_pairs=200: a fold of 2 identities with 2 images each has only 2 same pairs"),
    ],
)
def test_impossible_numbers_of_pairs_are_refused(changed, message):
    wanted = {"num_identities": 20, "images_per_identity": 2, "num_pairs": 20, "first_identity": 0, **changed}
    with pytest.raises(SettingError, match=message):
        draw_pairs(**wanted)
