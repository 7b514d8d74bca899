"""Files and protocol of the challenge, from images to the rate."""

import itertools
import struct

import cv2
import numpy as np
import pytest

from tests.helpers.embeddings import Counting
from tests.helpers.images import image
from vargfacenet.commands import main
from vargfacenet.errors import DataError
from vargfacenet.eval.cache import EmbeddingCache
from vargfacenet.eval.challenge import score_features, write_list_features
from vargfacenet.eval.features import read_features, write_features
from vargfacenet.eval.image_list import read_image_list
from vargfacenet.eval.protocols.all_pairs import DISTRACTOR
from vargfacenet.formats.images import encode_png


@pytest.fixture
def listed(tmp_path):
    """Twelve images of four identities with their labelled list."""
    lines = []
    for identity, number in itertools.product(range(4), range(3)):
        name = f"{identity}/{number}.png"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode_png(image(identity, number)))
        lines.append(f"{name} {identity if identity else DISTRACTOR}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path / "list.txt"


def test_a_feature_file_has_the_format_of_the_challenge(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert write_features(tmp_path / "f.bin", [rows[:3], rows[3:]], 4) == 3
    content = (tmp_path / "f.bin").read_bytes()
    assert content == struct.pack("<4i", 4, 3, 12, cv2.CV_32F) + rows.tobytes()
    np.testing.assert_array_equal(read_features(tmp_path / "f.bin")[:], rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc", "3 bytes, fewer than a header"),
        (struct.pack("<4i", 2, 3, 13, 5) + bytes(24), "its header reads 2, 3, 13, 5, expected rows, columns"),
        (struct.pack("<4i", 2, 3, 12, 6) + bytes(24), "its header reads 2, 3, 12, 6"),
        (struct.pack("<4i", -2, 3, 12, 5) + bytes(24), "its header reads -2, 3, 12, 5"),
        (struct.pack("<4i", 2**31 - 1, 3, 12, 5) + bytes(24), "announces 2147483647 rows of 3"),
        (struct.pack("<4i", 2, 3, 12, 5) + bytes(23), "has 39 bytes, its header announces 2 rows of 3, 40 bytes"),
    ],
)
def test_a_malformed_feature_file_is_refused(tmp_path, content, message):
    (tmp_path / "f.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_features(tmp_path / "f.bin")


def test_rows_that_do_not_fit_leave_no_file(tmp_path):
    rows = np.ones((2, 3), np.float32)
    for blocks, message in (
        ([rows], "2 rows were given, expected 3"),
        ([rows, np.ones((1, 4))], "row 2 has 4 numbers, those before it 3"),
        ([rows, rows[:1] * np.nan], r"rows 2\.\.2 hold NaN or infinity"),
    ):
        with pytest.raises(DataError, match=message):
            write_features(tmp_path / "f.bin", blocks, 3)
    assert not list(tmp_path.iterdir())


def test_a_list_has_paths_and_perhaps_labels(tmp_path):
    (tmp_path / "l.txt").write_text("a b.jpg 3\nc.jpg -1\r\n\nd e.jpg\t7\n")
    found = read_image_list(tmp_path / "l.txt")
    assert found.paths == ["a b.jpg", "c.jpg", "d e.jpg"]
    assert found.labels.tolist() == [3, DISTRACTOR, 7]
    (tmp_path / "l.txt").write_text("a b.jpg\nc.jpg\n")
    assert read_image_list(tmp_path / "l.txt").paths == ["a b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no image"),
        (b"\n \n", "lists no image"),
        (b"a.jpg 1\nb\xff.jpg 2\n", "line 2 is not UTF-8 text"),
        (b"a.jpg 1\nb.jpg\n", "line 2 has no label, the lines before it have one"),
        (b"a.jpg\nb.jpg 1\n", "line 2 has a label, the lines before it have none"),
        (b"a.jpg 1\nb.jpg 1.5\n", "line 2: label '1.5', expected a whole number"),
        (b"a.jpg\tx\n", "line 1: label 'x', expected a whole number"),
        (b"a.jpg -2\n", "line 1: label '-2'"),
        (b"a.jpg 1\nb\0.jpg 1\n", "line 2 contains a zero byte"),
    ],
)
def test_a_bad_list_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_image_list(tmp_path / "l.txt")


def test_from_images_to_the_rate(tmp_path, listed):
    cache, embedder = EmbeddingCache(tmp_path / "cache"), Counting()
    out = tmp_path / "f.bin"
    assert write_list_features(cache, embedder, "network", listed, tmp_path, out) == (12, 6)
    expected = []
    for identity, number in itertools.product(range(4), range(3)):
        face = image(identity, number).astype(np.float64)
        both = (face[0, :2] + face[0, :-3:-1]).T.ravel()
        expected.append(both / np.linalg.norm(both))
    np.testing.assert_allclose(read_features(out)[:], expected, atol=1e-6)
    found = score_features(out, listed, fars=(0.1,))
    same, different = [], []
    for i, j in itertools.combinations(range(12), 2):
        (same if i // 3 == j // 3 > 0 else different).append(expected[i] @ expected[j])
    threshold = np.sort(different)[::-1][int(0.1 * len(different))]
    assert (found.same, found.different) == (len(same), len(different)) == (9, 57)
    assert found.rates[0].tar == (np.array(same) > threshold).mean()


def test_a_second_feature_file_without_its_list_is_refused(tmp_path, listed):
    write_features(tmp_path / "f.bin", [np.ones((12, 3), np.float32)], 12)
    for second in ({"others": tmp_path / "f.bin"}, {"other_list": listed}):
        with pytest.raises(DataError, match="a second feature file needs its list"):
            score_features(tmp_path / "f.bin", listed, **second)


def test_features_of_another_list_are_refused(tmp_path, listed):
    write_features(tmp_path / "f.bin", [np.ones((3, 2), np.float32)], 3)
    with pytest.raises(DataError, match="has 3 rows, .* lists 12 images"):
        score_features(tmp_path / "f.bin", listed)


def test_the_command_goes_from_checkpoint_to_rate(tmp_path, capsys, teacher_prefix, listed):
    out, result = str(tmp_path / "f.bin"), tmp_path / "r.json"
    options = ["--cache", str(tmp_path / "cache")]
    assert main(["challenge", "features", f"{teacher_prefix},0", str(listed), out, *options]) == 0
    assert "embeddings of 16 numbers of 12 images" in capsys.readouterr().out
    arguments = [out, str(listed), out, str(listed), "--far", "0.1", "1e-8", "--worst", "3", "--json", str(result)]
    assert main(["challenge", "score", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "27 pairs of one identity, 117 of different identities" in printed
    assert "1e-08  not measurable" in printed
    assert printed.count(".png") == 6
    assert '"accepted_different"' in result.read_text()


def test_mistakes_are_one_line(tmp_path, capsys, teacher_prefix, listed):
    (tmp_path / "2/1.png").write_bytes(b"no image")
    for arguments, message in (
        (
            ["features", str(teacher_prefix), str(listed), str(tmp_path / "f.bin"), "--no-cache"],
            "2/1.png: 8 bytes that are",
        ),
        (["score", str(tmp_path / "none.bin"), str(listed)], "cannot read"),
        (["score", str(listed), str(listed)], "is not a feature file"),
        (["score", str(listed), str(listed), str(listed)], "has no list: give FEATURES LIST OTHERS OTHER_LIST"),
    ):
        assert main(["challenge", *arguments]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err
    assert not (tmp_path / "f.bin").exists()
