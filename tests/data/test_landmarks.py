"""Files of landmarks: accepted formats, and errors that name the line."""

import numpy as np
import pytest

from tests.helpers.photographs import line
from vargfacenet.alignment import TEMPLATE
from vargfacenet.data.landmarks import read_landmarks
from vargfacenet.errors import DataError

POINTS = np.round(TEMPLATE.astype(float), 3)


def written(tmp_path, *lines):
    path = tmp_path / "points.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";", "   "])
@pytest.mark.parametrize("name", ["a/b.jpg", "with blanks/and more.png", "0001.jpg", "Zo\u00eb/1 2.jpg", "7/8"])
def test_a_line_is_a_path_and_ten_numbers(tmp_path, separator, name):
    found = read_landmarks(written(tmp_path, line(name, POINTS, separator), "", line("other", POINTS + 1, separator)))
    assert list(found) == [name, "other"]
    np.testing.assert_array_equal(found[name][0], POINTS)
    assert [number for _, number in found.values()] == [1, 3]


def test_headers_quotes_comments_and_a_leading_dot_are_understood(tmp_path):
    path = written(tmp_path, "file,x1,y1,x2,y2", "# made by hand", line('"./a/b.jpg"', POINTS, ","))
    assert list(read_landmarks(path)) == ["a/b.jpg"]


def test_backslashes_separate_folders_in_lists_of_windows(tmp_path):
    assert list(read_landmarks(written(tmp_path, line("ann\\b.jpg", POINTS, ";")))) == ["ann/b.jpg"]


def test_celebas_list_is_read(tmp_path):
    names = [f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    lines = [f"{number:06d}.jpg  69  109  106  113   77  142   73  152  108  154" for number in (1, 2)]
    found = read_landmarks(written(tmp_path, "2", " ".join(names), *lines))
    assert list(found) == ["000001.jpg", "000002.jpg"]
    np.testing.assert_array_equal(found["000001.jpg"][0], [[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]])


GOOD = line("a.jpg", POINTS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD, "b.jpg 1 2 3"], "line 2 reads 'b.jpg 1 2 3', expected a path and ten finite numbers"),
        ([GOOD, line("", POINTS)], "line 2 reads"),
        ([GOOD, GOOD.replace("a.jpg", "b.jpg").replace("51.696", "x")], "line 2 reads 'b.jpg 38.295 x .*'\\.\\.\\."),
        ([GOOD, GOOD.replace("a.jpg", "b.jpg").replace("51.696", "nan")], "line 2 reads"),
        ([GOOD, GOOD.replace("a.jpg", "b.jpg").replace("51.696", "inf")], "line 2 reads"),
        ([GOOD, "file x1 y1"], "line 2 reads"),
        (["header", "second header", "third header"], "line 3 reads"),
        ([GOOD, GOOD], "line 2: a.jpg is in line 1 already; keep one face per image"),
        ([GOOD, line("../b.jpg", POINTS)], r"line 2: \.\./b\.jpg leads out of the folder"),
        ([GOOD, line("/b.jpg", POINTS)], "line 2: /b.jpg leads out of the folder"),
        (["3", GOOD], "announces 3 images and lists 1: it may be cut"),
        (["", "# nothing"], "lists no image"),
        (
            [line("a.jpg", POINTS[[1, 0, 2, 4, 3]]), line("b.jpg", POINTS[[1, 0, 2, 4, 3]]), line("c.jpg", POINTS)],
            "in 2 of 3 faces checked, .* left and right are swapped: the likely order is right eye, left eye, nose, right",
        ),
    ],
)
def test_a_malformed_list_of_landmarks_is_refused_with_its_line(tmp_path, lines, message):
    with pytest.raises(DataError, match=f"points.txt.*{message}"):
        read_landmarks(written(tmp_path, *lines))


@pytest.mark.parametrize("degrees", [0, 45, 90, 180, 300])
def test_a_rotated_face_is_accepted_and_a_mirrored_one_refused(tmp_path, degrees):
    angle = np.deg2rad(degrees)
    turned = POINTS @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert read_landmarks(written(tmp_path, line("a.jpg", turned)))
    with pytest.raises(DataError, match="left and right are swapped"):
        read_landmarks(written(tmp_path, line("a.jpg", turned * (-1, 1))))


@pytest.mark.parametrize(
    ("points", "order"),
    [
        (POINTS[[0, 1, 2, 4, 3]], "left eye, right eye, nose, right corner of the mouth, left corner of the mouth"),
        (POINTS[[1, 0, 2, 3, 4]], "right eye, left eye, nose, left corner of the mouth, right corner of the mouth"),
        (POINTS[[2, 0, 1, 3, 4]], "nose, left eye, right eye, left corner of the mouth, right corner of the mouth"),
        (POINTS[[1, 2, 4, 0, 3]], "right eye, nose, right corner of the mouth, left eye, left corner of the mouth"),
        (POINTS.T.reshape(5, 2), r"x1 \.\. x5 y1 \.\. y5"),
    ],
)
def test_points_in_another_order_are_refused_and_the_order_is_named(tmp_path, points, order):
    lines = [line(f"{number}.jpg", points * (1 + number)) for number in range(3)]
    with pytest.raises(DataError, match=f"in 3 of 3 faces checked, .* the likely order is {order}; expected"):
        read_landmarks(written(tmp_path, *lines))


def test_points_unlike_a_face_and_relative_coordinates_are_refused(tmp_path):
    heap = np.array([[0, 0], [100, 0], [0, 1], [0, 2], [1, 0]])
    with pytest.raises(DataError, match="do not lie as those of a face: expected x and y of left eye"):
        read_landmarks(written(tmp_path, line("a.jpg", heap)))
    with pytest.raises(DataError, match=r"fractions of the image, 0 \.\. 1: expected pixels"):
        read_landmarks(written(tmp_path, line("a.jpg", POINTS / 112)))


def test_turned_heads_are_accepted(tmp_path):
    profile = POINTS.copy()
    profile[:, 0] = 56 + (profile[:, 0] - 56) * 0.4
    profile[2, 0] -= 10
    assert len(read_landmarks(written(tmp_path, line("a.jpg", profile), line("b.jpg", profile + 50)))) == 2


def test_faces_in_full_profile_are_accepted_with_a_warning(tmp_path, caplog):
    profile = POINTS.copy()
    profile[:, 0] = 56 + (profile[:, 0] - 56) * 0.05
    profile[2, 0] -= 18
    assert len(read_landmarks(written(tmp_path, line("a.jpg", profile)))) == 1
    assert "in 1 of 1 faces checked, the five points lie far from those of a frontal face" in caplog.text


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none\.txt"):
        read_landmarks(tmp_path / "none.txt")
