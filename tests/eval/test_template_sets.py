"""Layout of IJB: accepted files, and errors that name file and line."""

import shutil

import numpy as np
import pytest

from tests.helpers.ijb_set import IDENTITIES, make_ijb_set
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.ijb import read_trials
from vargfacenet.eval.template_sets import read_template_set

FACES, POINTS, PAIRS = "face_tid_mid.txt", "name_5pts_score.txt", "template_pair_label.txt"
GALLERY, PROBES = "1N_gallery_G2.csv", "1N_probe_mixed.csv"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ijb") / "IJBC"
    make_ijb_set(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "IJBC")


def test_rows_templates_and_trials_are_those_of_the_files(sound):
    found = read_template_set(sound)
    lines = [line.split() for line in (sound / "meta" / f"ijbc_{FACES}").read_text().splitlines()]
    assert found.name == "ijbc"
    assert [found.names[row] for row in found.images] == [line[0] for line in lines]
    assert found.templates.tolist() == [int(line[1]) for line in lines]
    assert found.media.tolist() == [int(line[2]) for line in lines]
    assert found.ids.tolist() == sorted({int(line[1]) for line in lines})
    points = [line.split() for line in (sound / "meta" / f"ijbc_{POINTS}").read_text().splitlines()]
    assert found.names.tolist() == [line[0] for line in points]
    np.testing.assert_allclose(found.points.reshape(-1, 10), [[float(x) for x in line[1:-1]] for line in points])
    np.testing.assert_allclose(found.scores, [float(line[-1]) for line in points])
    trials = read_trials(found)
    pairs = zip(found.ids[trials.pairs.first], found.ids[trials.pairs.second], trials.pairs.is_same)
    expected = [line.split() for line in (sound / "meta" / f"ijbc_{PAIRS}").read_text().splitlines()]
    assert [(str(one), str(other), str(int(same))) for one, other, same in pairs] == [tuple(line) for line in expected]
    assert [len(gallery.templates) for gallery in trials.galleries] == [IDENTITIES // 2] * 2
    assert len(trials.probes.templates) == 2 * IDENTITIES
    lines = (sound / "meta" / f"ijbc_{PROBES}").read_text().splitlines()[1:]
    assert dict(zip(found.ids[trials.probes.templates], trials.probes.subjects)) == {
        int(line.split(",")[0]): int(line.split(",")[1]) for line in lines
    }


def test_galleries_of_ijbb_are_called_s(tmp_path):
    make_ijb_set(tmp_path, "ijbb", galleries=("S1", "S2"))
    found = read_template_set(tmp_path)
    assert (found.name, len(read_trials(found, ["1:N"]).galleries)) == ("ijbb", 2)


def changed(folder, file, line, text):
    """Replace a line (from 1) of a meta file, or delete it if None."""
    path = folder / "meta" / f"ijbc_{file}"
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_bytes(b"".join(one.encode("utf-8", "surrogateescape") + b"\n" for one in lines))


FIVE = "1 2 3 4 5 6 7 8 9 10"


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        (FACES, 3, "1.png 1000", r"line 3 has 2 value\(s\), expected 3: NAME TEMPLATE MEDIUM"),
        (FACES, 3, "1.png 1000 7 7", r"line 3 has 4 value\(s\)"),
        (FACES, 4, "1.png x 7", "line 4: TEMPLATE is 'x', expected a whole number"),
        (FACES, 4, "1.png 1000 7.5", "line 4: MEDIUM is '7.5'"),
        (FACES, 5, "nobody.png 1000 7", f"line 5: nobody.png has no points in ijbc_{POINTS}"),
        (FACES, 2, "\udcff.png 1000 7", "line 2 is not UTF-8"),
        (POINTS, 6, "6.png 1 2 3", r"line 6 has 4 value\(s\), expected 12: NAME x1 y1 .* y5 SCORE"),
        (POINTS, 6, f"6.png {FIVE} high", "line 6: SCORE is 'high', expected a finite number"),
        (POINTS, 6, f"6.png {FIVE.replace('4', 'nan')} 0.9", "line 6: y2 is 'nan', expected a finite number"),
        (POINTS, 6, f"6.png {FIVE} -0.5", "line 6: score -0.5, expected at least 0"),
        (POINTS, 6, f"5.png {FIVE} 0.5", "line 6: 5.png is already listed"),
        (POINTS, 6, f"../6.png {FIVE} 0.5", "line 6: ../6.png, expected the name of a file in loose_crop"),
        (PAIRS, 7, "1000 5 1", f"line 7: template 5 is not in ijbc_{FACES}"),
        (PAIRS, 7, "1000 987 2", "line 7: label 2, expected 1 for the same subject or 0"),
        (PAIRS, 7, "1000 987", r"line 7 has 2 value\(s\), expected 3: TEMPLATE TEMPLATE LABEL"),
        (PAIRS, 7, "1000 987 yes", "line 7: LABEL is 'yes', expected a whole number"),
        (GALLERY, 1, "1000,50,a,7,1,2,30,40", "line 1 is not a header"),
        (GALLERY, 4, "5,50,a,7,1,2,30,40", f"line 4: template 5 is not in ijbc_{FACES}"),
        (GALLERY, 4, "844,50", r"line 4 has 2 value\(s\), expected 8, like the header"),
        (PROBES, 3, "987,51,a,7,1,2,30,40", "line 3: template 987 shows subject 51, but 50 in a line before"),
        (PROBES, 3, "987,Ann,a,7,1,2,30,40", "line 3: SUBJECT_ID is 'Ann', expected a whole number"),
    ],
)
def test_a_malformed_line_is_named(folder, file, line, text, message):
    changed(folder, file, line, text)
    with pytest.raises(DataError, match=f"ijbc_{file}: {message}"):
        read_trials(read_template_set(folder))


def test_an_image_twice_in_a_template_is_named(folder):
    path = folder / "meta" / f"ijbc_{FACES}"
    lines = path.read_text().splitlines()
    changed(folder, FACES, 9, " ".join([*lines[3].split()[:2], "8"]))
    with pytest.raises(DataError, match=rf"line 9: {lines[3].split()[0]} is already in template {lines[3].split()[1]}"):
        read_template_set(folder)


def test_an_image_may_be_in_two_templates(folder):
    path = folder / "meta" / f"ijbc_{FACES}"
    path.write_text(path.read_text() + "1.png 987 7\n")
    assert read_template_set(folder).names[read_template_set(folder).images[-1]] == "1.png"


@pytest.mark.parametrize("file", [FACES, POINTS, PAIRS, GALLERY, PROBES])
def test_an_empty_or_missing_file_is_named(folder, file):
    (folder / "meta" / f"ijbc_{file}").write_text("")
    with pytest.raises(DataError, match=rf"ijbc_{file} is empty"):
        read_trials(read_template_set(folder))
    (folder / "meta" / f"ijbc_{file}").unlink()
    with pytest.raises(DataError, match=rf"ijbc_{file}"):
        read_trials(read_template_set(folder))


def test_missing_images_are_named_with_the_first_line_and_counted(folder):
    for number in (4, 9):
        (folder / "loose_crop" / f"{number}.png").unlink()
    with pytest.raises(
        DataError, match=rf"{POINTS}: line 4: 4.png is not in .*; 2 of 84 images are missing: 4.png, 9.png"
    ):
        read_template_set(folder)
    assert len(read_template_set(folder, allow_missing=True).names) == 84
    shutil.rmtree(folder / "loose_crop")
    with pytest.raises(DataError, match="no folder of images"):
        read_template_set(folder, allow_missing=True)


def test_the_set_is_chosen_by_name_or_by_its_files(folder, tmp_path):
    with pytest.raises(DataError, match=r"holds no set of templates: expected .*ijbb_face_tid_mid\.txt or "):
        read_template_set(tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*ijbb_name_5pts_score\.txt"):
        read_template_set(folder, "ijbb")
    with pytest.raises(SettingError, match="unknown set 'ijba'"):
        read_template_set(folder, "ijba")
    shutil.copy(folder / "meta" / f"ijbc_{FACES}", folder / "meta" / f"ijbb_{FACES}")
    with pytest.raises(DataError, match="holds both sets: choose one by its name"):
        read_template_set(folder)
    assert read_template_set(folder, "ijbc").name == "ijbc"


def test_another_protocol_is_refused(sound):
    with pytest.raises(SettingError, match="protocol '1:2': expected 1:1 or 1:N"):
        read_trials(read_template_set(sound), ["1:2"])


def test_points_in_another_order_are_refused(folder):
    path = folder / "meta" / f"ijbc_{POINTS}"
    rows = [line.split() for line in path.read_text().splitlines()]
    path.write_text("".join(" ".join([*row[:7], *row[9:11], *row[7:9], row[11]]) + "\n" for row in rows))
    with pytest.raises(DataError, match="the likely order is left eye, right eye, nose, right corner of the mouth"):
        read_template_set(folder)
