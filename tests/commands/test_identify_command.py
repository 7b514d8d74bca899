"""``vargfacenet identify`` against a direct computation, and what it refuses."""

import json
import re

import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import image
from tests.helpers.networks import by_stock_calls
from vargfacenet.commands import main
from vargfacenet.commands.output import markdown_table
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.protocols.identification import gallery_entries
from vargfacenet.formats.images import encode_png

GALLERY = {f"p{person}": [(person, number) for number in range(3)] for person in range(6)}
PROBES = {f"p{person}": [(person, number) for number in range(10, 14)] for person in range(3, 9)}


def write(folder, people):
    for name, images in people.items():
        (folder / name).mkdir(parents=True)
        for person, number in images:
            (folder / name / f"{number}.png").write_bytes(encode_png(blurred(person, number)))
    return folder


def blurred(person, number):
    """A person's stripes with half of a neighbour's over them, so that not all are told apart."""
    mixed = 0.6 * image(person, number) + 0.4 * image(person + 1 + number % 3, number + 50)
    return mixed.astype(np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    return write(folder / "gallery", GALLERY), write(folder / "probes", PROBES)


@pytest.fixture(scope="module")
def unit(teacher_prefix):
    """Unit embeddings of image and mirror added, by (person, number)."""
    keys = [key for people in (GALLERY, PROBES) for images in people.values() for key in images]
    images = np.stack([blurred(*key) for key in keys]).transpose(0, 3, 1, 2).astype(np.float32)
    both = by_stock_calls(teacher_prefix, 0, images) + by_stock_calls(teacher_prefix, 0, images[:, :, :, ::-1])
    return {key: one / np.linalg.norm(one) for key, one in zip(keys, both.astype(np.float64))}


def directly(unit, by):
    def score(probe, person):
        if by == "nearest":
            return max(probe @ unit[key] for key in GALLERY[person])
        mean = sum(unit[key] for key in GALLERY[person])
        return probe @ mean / np.linalg.norm(mean)

    ranks, firsts, alarms = [], [], []
    for name, images in PROBES.items():
        for key in images:
            scores = {person: score(unit[key], person) for person in GALLERY}
            if name not in GALLERY:
                alarms.append(max(scores.values()))
                continue
            # Float32 does not tell scores apart that are closer than that.
            ranks.append(sum(other >= scores[name] - 5e-7 for other in scores.values()))
            firsts.append(scores[name] if ranks[-1] == 1 else -9)
    threshold = sorted(alarms)[-2]  # of 12 strangers, a rate of 0.1 lets one in
    return ranks, np.mean(np.array(firsts) > threshold), len(alarms)


@pytest.mark.parametrize("by", ["mean", "nearest"])
def test_rates_are_those_of_a_direct_computation(folders, teacher_prefix, unit, tmp_path, capsys, by):
    result, table = tmp_path / "result.json", tmp_path / "table.md"
    given = ["identify", str(teacher_prefix), "--gallery", str(folders[0]), "--probes", str(folders[1])]
    given += ["--gallery-by", by, "--ranks", "1", "2", "--fpir", "0.1", "0.01"]
    assert main([*given, "--json", str(result), "--markdown", str(table)]) == 0
    ranks, tpir, strangers = directly(unit, by)
    found = json.loads(result.read_text())
    assert (found["identities"], found["mated"], found["non_mated"]) == (6, 12, strangers)
    expected = [np.mean([rank <= k for rank in ranks]) for k in range(1, 21)]
    assert found["cmc"] == pytest.approx(expected)
    assert found["rank"] == pytest.approx({"1": expected[0], "2": expected[1]})
    assert found["tpir"] == {"0.1": pytest.approx(tpir), "0.01": None}
    assert 0 < tpir < 1
    out = capsys.readouterr().out
    assert f"6 identities in the gallery; 12 mated probes, 12 non-mated; gallery by {by}\n" in out
    row = [f"{expected[0]:.4f}", f"{expected[1]:.4f}", f"{tpir:.4f}", "-"]
    assert out.splitlines()[-1].split() == row
    assert table.read_text().splitlines()[-1] == f"| {' | '.join(row)} |"


def test_entries_of_a_gallery_are_means_of_unit_embeddings_or_all_images():
    embeddings = np.array([[2.0, 0], [0, 8], [0, 3]])
    entries, identities = gallery_entries(embeddings, ["b", "b", "a"])
    assert identities.tolist() == ["a", "b"]
    np.testing.assert_allclose(entries, [[0, 1], [np.sqrt(0.5)] * 2], rtol=1e-6)
    entries, identities = gallery_entries(embeddings, ["b", "b", "a"], by="nearest")
    assert identities.tolist() == ["b", "b", "a"]
    np.testing.assert_allclose(entries, [[1, 0], [0, 1], [0, 1]])
    with pytest.raises(SettingError, match="unknown kind of gallery 'best': did you mean 'nearest'"):
        gallery_entries(embeddings, ["b", "b", "a"], by="best")
    with pytest.raises(DataError, match="NaN"):
        gallery_entries(np.full((1, 2), np.nan), ["a"])


def test_what_cannot_be_carried_out_is_one_line(folders, teacher_prefix, capsys, tmp_path):
    gallery, probes = folders
    given = ["identify", teacher_prefix, "--gallery", gallery, "--probes"]
    assert re.search(r"no folder of images .*nowhere", refused(capsys, *given, tmp_path / "nowhere"))
    assert "unknown kind of gallery 'best'" in refused(capsys, *given, probes, "--gallery-by", "best")
    assert "--ranks=0: expected between 1 and" in refused(capsys, *given, probes, "--ranks", "0")
    assert "--fpir=1.0: expected between" in refused(capsys, *given, probes, "--fpir", "1")
    wrong = write(tmp_path / "wrong", {"p0": [(0, 0)]})
    (wrong / "p0" / "9.png").write_bytes(b"hello")
    assert re.search(r"p0/9\.png: 5 bytes that are not an image", refused(capsys, *given, wrong))
    (wrong / "p0" / "9.png").write_bytes(encode_png(np.zeros((50, 60, 3), np.uint8)))
    assert "9.png is 60x50 pixels, expected an aligned face" in refused(capsys, *given, wrong)
    assert main([*map(str, given), str(wrong), "--crop"]) == 0


def test_bars_in_cells_do_not_break_a_markdown_table():
    assert markdown_table(["a|b", "c"], [["x|y", 1]]) == "| a\\|b | c |\n| --- | --- |\n| x\\|y | 1 |\n"


def test_an_image_that_is_in_both_folders_is_refused(folders, teacher_prefix, capsys):
    assert main(["identify", str(teacher_prefix), "--gallery", str(folders[0]), "--probes", str(folders[0])]) == 2
    assert "is in the gallery and among the probes" in capsys.readouterr().err
