"""The built-in face set: the same wherever it is drawn, and a task that needs learning but can be learnt."""

import itertools
import math
import time

import cv2
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from vargfacenet.data.synth import contact_sheet, draw_faces, draw_pairs
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
    pictures, is_same = draw_pairs(
        num_identities=60, images_per_identity=4, num_pairs=400, first_identity=TRAIN_IDENTITIES
    )
    return pictures, np.array(is_same)


def best_accuracy(features, is_same):
    """Of the best threshold on the cosine of features (2n, d)."""
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = (features[::2] * features[1::2]).sum(axis=1)
    return max(np.mean((similarity >= threshold) == is_same) for threshold in [*similarity, np.inf])


def raw_accuracy(pictures, is_same, *, standardised):
    pixels = np.stack([decode(picture).ravel() for picture in pictures]).astype(np.float32)
    if standardised:
        pixels = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    return best_accuracy(pixels - pixels.mean(axis=0), is_same)


def hog(pictures):
    """Histograms of oriented gradients [Dalal and Triggs, CVPR 2005] of cells, each block of 2x2 cells at length one."""
    return np.stack(
        [hog_of(cv2.cvtColor(decode(picture), cv2.COLOR_BGR2GRAY).astype(np.float32)) for picture in pictures]
    )


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


def test_a_picture_does_not_depend_on_what_else_is_drawn(train_set):
    alone = list(draw_faces(num_identities=1, images_per_identity=3, first_identity=7))
    assert alone == [item for item in train_set if item[0] == 7][:3]


def test_identities_count_from_the_first_and_come_in_order():
    numbers = [number for number, _ in draw_faces(num_identities=3, images_per_identity=2, first_identity=40)]
    assert numbers == [40, 40, 41, 41, 42, 42]


def test_another_seed_gives_other_pictures(train_set):
    other = next(draw_faces(num_identities=1, images_per_identity=1, seed=1))
    assert other[1] not in {picture for _, picture in train_set}


def test_no_two_pictures_are_alike(train_set):
    assert len({picture for _, picture in train_set}) == len(train_set)


@pytest.mark.parametrize("size", [112, 64, 128])
def test_pictures_decode_to_the_size_asked_for(size):
    _, picture = next(draw_faces(num_identities=1, images_per_identity=1, size=size))
    assert decode(picture).shape == (size, size, 3)


def test_contact_sheet_shows_an_identity_a_row(train_set):
    sheet = contact_sheet(rows=2, columns=3)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 112, 3 * 112, 3)
    second = decode([picture for number, picture in train_set if number == 1][2])[:, :, ::-1]
    shown = sheet[112:, 224:].astype(float)
    assert np.abs(shown - second).mean() < 12  # what JPEG changes; another picture of the sheet is above 30


def test_pairs_come_in_ten_balanced_folds(pairs):
    pictures, is_same = pairs
    assert len(pictures) == 2 * len(is_same) == 800
    assert (is_same.reshape(10, 40).sum(axis=1) == 20).all()


def test_pairs_keep_off_the_training_identities_and_say_who_is_who(pairs):
    pictures, is_same = pairs
    people = draw_faces(num_identities=60, images_per_identity=4, first_identity=TRAIN_IDENTITIES)
    owner = {picture: number for number, picture in people}
    numbers = np.array([owner[picture] for picture in pictures])  # a KeyError: a picture of someone else
    assert ((numbers[::2] == numbers[1::2]) == is_same).all()
    folds = [set(fold) for fold in numbers.reshape(10, 80).tolist()]
    assert not any(one & other for one, other in itertools.combinations(folds, 2))


def test_no_pair_comes_twice_or_holds_one_picture_twice(pairs):
    pictures, _ = pairs
    couples = {frozenset(couple) for couple in zip(pictures[::2], pictures[1::2])}
    assert len(couples) == 400
    assert all(len(couple) == 2 for couple in couples)


@pytest.mark.parametrize("standardised", [False, True])
def test_raw_pixels_do_not_tell_people_apart(pairs, standardised):
    assert raw_accuracy(*pairs, standardised=standardised) < 0.75


def test_a_weak_learner_recognises_unseen_people_far_better_than_raw_pixels(train_set, pairs):
    numbers, train_pictures = zip(*train_set)
    pictures, is_same = pairs
    seen = hog(train_pictures)
    with threadpool_limits(1):  # on a busy machine BLAS threads wait for one another far longer than one thread works
        reduction = PCA(150, svd_solver="randomized", random_state=0).fit(seen)
        learner = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1, n_components=40)
        learner.fit(reduction.transform(seen), numbers)
        embedded = learner.transform(reduction.transform(hog(pictures)))
    learnt = best_accuracy(embedded, is_same)
    assert learnt > 0.85
    assert learnt > raw_accuracy(pictures, is_same, standardised=True) + 0.12


def test_a_picture_is_drawn_in_milliseconds():
    start = time.process_time()
    count = len(list(draw_faces(num_identities=5, images_per_identity=10)))
    assert (time.process_time() - start) / count < 0.04  # four to six milliseconds on one core; slow machines pass


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
        ({"num_pairs": 200}, "num_pairs=200: a fold of 2 identities with 2 pictures each has only 2 same pairs"),
    ],
)
def test_pairs_that_cannot_be_had_are_refused(changed, message):
    wanted = {"num_identities": 20, "images_per_identity": 2, "num_pairs": 20, "first_identity": 0, **changed}
    with pytest.raises(SettingError, match=message):
        draw_pairs(**wanted)
