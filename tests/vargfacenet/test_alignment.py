"""Alignment by five points, against other ways to the same transform and images whose content is known."""

import cv2
import numpy as np
import pytest

from vargfacenet import alignment
from vargfacenet.alignment import TEMPLATE, align_face, scaled_template, similarity, warp
from vargfacenet.errors import DataError


def moved(points, *, degrees=0.0, scale=1.0, shift=(0.0, 0.0)):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(points, float) @ (scale * turn).T + shift


def centred(points, side):
    return points - points.mean(axis=0) + side / 2


def by_least_squares(points, template):
    """The four parameters of x' = a x - b y + c, y' = b x + a y + d, from the ten equations themselves."""
    rows, wanted = [], []
    for (x, y), (to_x, to_y) in zip(points, template):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        wanted += [to_x, to_y]
    a, b, c, d = np.linalg.lstsq(np.array(rows, float), np.array(wanted, float), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


def by_umeyama(points, template):
    """Equations 39 to 43 of the paper, by the singular values of the covariance."""
    points, template = np.asarray(points, float), np.asarray(template, float)
    offsets, wanted = points - points.mean(0), template - template.mean(0)
    u, d, vt = np.linalg.svd(wanted.T @ offsets / len(points))
    s = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ np.diag(s) @ vt
    scale = (d * s).sum() / offsets.var(axis=0).sum()
    return np.column_stack([scale * turn, template.mean(0) - scale * turn @ points.mean(0)])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("other", [by_least_squares, by_umeyama])
def test_similarity_is_the_least_squares_one(seed, other):
    random = np.random.RandomState(seed)
    points = moved(TEMPLATE, degrees=random.uniform(-180, 180), scale=random.uniform(0.1, 20), shift=(300, -50))
    points += random.normal(0, 8, points.shape)
    np.testing.assert_allclose(similarity(points), other(points, TEMPLATE), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 30, 90, 179, -120])
@pytest.mark.parametrize("scale", [0.2, 1.0, 7.0])
def test_known_rotation_scale_and_shift_are_undone(degrees, scale):
    matrix = similarity(moved(TEMPLATE, degrees=degrees, scale=scale, shift=(40, 900)))
    assert np.hypot(*matrix[:, 0]) == pytest.approx(1 / scale, rel=1e-6)
    assert np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])) == pytest.approx(-degrees, abs=1e-4)
    points = moved(TEMPLATE, degrees=degrees, scale=scale, shift=(40, 900))
    np.testing.assert_allclose(np.column_stack([points, np.ones(5)]) @ matrix.T, TEMPLATE, atol=1e-4)


def test_mirrored_points_are_not_met_by_a_reflection():
    matrix = similarity(TEMPLATE * (-1, 1))
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, by_umeyama(TEMPLATE * (-1, 1), TEMPLATE), rtol=1e-6, atol=1e-6)


def test_an_image_already_aligned_is_left_as_it_is():
    image = np.random.RandomState(0).randint(0, 256, (112, 112, 3)).astype(np.uint8)
    np.testing.assert_array_equal(align_face(image, TEMPLATE), image)


def smooth_scene(x, y):
    """A smooth colour pattern, of coordinates of an aligned face."""
    waves = [
        128 + 100 * np.sin(x / period + phase) * np.cos(y / 9 - phase) for period, phase in ((7, 0), (11, 1), (8, 2))
    ]
    return np.stack(waves, axis=-1)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.3), (25, 1.7), (-100, 2.5), (180, 4.2), (40, 7.9)])
def test_a_turned_and_scaled_scene_comes_back(degrees, scale):
    points = centred(moved(TEMPLATE, degrees=degrees, scale=scale), 1600)
    x, y = np.meshgrid(np.arange(1600), np.arange(1600))
    back = similarity(points)  # tested above
    in_face = np.stack([x, y], axis=-1) @ back[:, :2].T + back[:, 2]
    photograph = np.rint(smooth_scene(in_face[..., 0], in_face[..., 1])).astype(np.uint8)
    x, y = np.meshgrid(np.arange(112.0), np.arange(112.0))
    inside = 4  # pixels of the edge, where the photograph may end
    difference = (align_face(photograph, points) - smooth_scene(x, y))[inside:-inside, inside:-inside]
    assert np.abs(difference).mean() < 1.5
    assert np.abs(difference).max() < 8


@pytest.mark.parametrize("scale", [2.1, 3, 5.5, 12])
def test_fine_stripes_become_grey_and_no_coarse_ones(scale):
    side = int(200 * scale)
    points = centred(moved(TEMPLATE, scale=scale, degrees=10), side)
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    stripes = (127.5 + 127.5 * np.sin(2 * np.pi * (x * 0.9 + y * 0.3) / scale)).astype(np.uint8)
    centre = (slice(40, 90), slice(30, 80))
    aligned = align_face(np.dstack([stripes] * 3), points)[centre]
    plain = cv2.warpAffine(stripes, similarity(points), (112, 112), flags=cv2.INTER_LINEAR)[centre]
    assert aligned.std() < plain.std() / 3
    assert abs(aligned.mean() - 127.5) < 4


@pytest.mark.parametrize("size", [56, 160, 224])
def test_another_size_shows_the_same_face(size):
    image = cv2.GaussianBlur(np.random.RandomState(1).randint(0, 256, (112, 112, 3)).astype(np.uint8), (0, 0), 4)
    expected = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if size < 112 else cv2.INTER_LINEAR)
    aligned = align_face(image, TEMPLATE, size=size)
    assert aligned.shape == (size, size, 3)
    inside = slice(4, -4)
    assert np.abs(aligned[inside, inside].astype(int) - expected[inside, inside]).max() <= 3
    edge_of_template = (TEMPLATE + 0.5) / 112
    np.testing.assert_allclose((scaled_template(size) + 0.5) / size, edge_of_template, rtol=1e-5)


def test_what_lies_outside_the_photograph_is_black():
    image = np.full((112, 112, 3), 200, np.uint8)
    aligned = align_face(image, TEMPLATE - (40, 0))
    assert (aligned[:, :39] == 0).all()
    assert (aligned[:, 41:] == 200).all()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.where(np.eye(5, 2) > 0, np.nan, TEMPLATE), "expected finite numbers"),
        (np.where(np.eye(5, 2) > 0, np.inf, TEMPLATE), "expected finite numbers"),
        (np.full((5, 2), 50.0), "coincide: they define no rotation"),
        (np.full((5, 2), 50.0) + np.arange(10).reshape(5, 2) / 50, "coincide: expected a face of more than a pixel"),
        (TEMPLATE + (0, 400), r"lie far outside the image of 112x112 pixels"),
        (TEMPLATE - (400, 0), r"lie far outside the image of 112x112 pixels"),
        (TEMPLATE * 1e30, "lie far outside"),
        (TEMPLATE[:4], r"points of shape \(4, 2\) for a template of \(5, 2\)"),
        (TEMPLATE.ravel(), r"points of shape \(10,\)"),
    ],
)
def test_points_that_are_no_face_are_refused(points, message):
    with pytest.raises(DataError, match=message):
        align_face(np.zeros((112, 112, 3), np.uint8), points)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((112, 112), np.uint8),
        np.zeros((112, 112, 3)),
        np.zeros((0, 112, 3), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(DataError, match=r"expected uint8 \(height, width, 3\)"):
        align_face(image, TEMPLATE)


def test_an_image_larger_than_opencv_warps_is_refused():
    with pytest.raises(DataError, match="32767x1 pixels, expected sides of at most 32766"):
        align_face(np.zeros((1, 32767, 3), np.uint8), TEMPLATE)


@pytest.mark.parametrize("shape", [(600, 1600), (1601, 37), (37, 1601)])
def test_an_image_that_is_averaged_first_is_moved_as_any_other(shape, monkeypatch):
    """Of a soft image, with sides that no factor divides."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([128 + 100 * np.sin(rows / 90), 128 + 100 * np.cos(columns / 70), rows % 7 * 0 + 90], axis=2)
    scale = 64 / (1.1 * max(shape))
    matrix = np.array([[scale, 0, 31.5 - scale * (width - 1) / 2], [0, scale, 31.5 - scale * (height - 1) / 2]])
    whole = warp(image.astype(np.uint8), matrix, 64)
    monkeypatch.setattr(alignment, "_CANVAS", 700)
    found = warp(image.astype(np.uint8), matrix, 64).astype(int)
    inside = whole.min(axis=2) > 20  # the edge of the image may be half a pixel elsewhere
    assert inside.any()
    assert np.abs(found - whole)[inside].mean() < 2
    assert np.percentile(np.abs(found - whole)[inside], 95) < 8


def test_a_long_and_narrow_image_takes_little_memory(monkeypatch):
    sides = []
    original = cv2.warpAffine
    monkeypatch.setattr(cv2, "warpAffine", lambda *a, **k: sides.append(a[2]) or original(*a, **k))
    monkeypatch.setattr(alignment, "_CANVAS", 1000)
    scale = 64 / 22_000
    warp(np.zeros((20_000, 30, 3), np.uint8), [[scale, 0, 0], [0, scale, 0]], 64)
    assert max(max(side) for side in sides) <= 1000
