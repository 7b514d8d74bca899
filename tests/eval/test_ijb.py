"""The protocols of IJB from end to end on a small set, against a direct computation from its files."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.ijb_set import make_ijb_set
from tests.helpers.networks import by_stock_calls
from vargfacenet.alignment import align_face
from vargfacenet.commands import main
from vargfacenet.deploy import export_onnx
from vargfacenet.errors import DataError
from vargfacenet.eval.ijb import face_reader, find_unreadable, read_trials, score_templates
from vargfacenet.eval.template_sets import read_template_set
from vargfacenet.formats.images import encode_jpeg

FARS, RANKS, FPIRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), (1, 5, 10), (0.1, 0.01, 0.001)


@pytest.fixture(scope="module")
def drawn_and_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ijb") / "IJBC"
    return make_ijb_set(folder), folder


@pytest.fixture(scope="module")
def folder(drawn_and_folder):
    return drawn_and_folder[1]


@pytest.fixture
def own_folder(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "IJBC")


@pytest.fixture(scope="module")
def embedded(folder, teacher_prefix):
    """Embeddings of images and of mirrors by stock calls, and detector scores: dicts by the images' names."""
    faces, scores = {}, {}
    for line in (folder / "meta" / "ijbc_name_5pts_score.txt").read_text().splitlines():
        name, *points, score = line.split()
        image = cv2.imread(str(folder / "loose_crop" / name))[:, :, ::-1]
        faces[name] = align_face(image, np.reshape([float(point) for point in points], (5, 2)))
        scores[name] = float(score)
    images = np.stack(list(faces.values())).transpose(0, 3, 1, 2).astype(np.float32)
    both = [by_stock_calls(teacher_prefix, 0, given) for given in (images, images[:, :, :, ::-1])]
    return [dict(zip(faces, found.astype(np.float64))) for found in both], scores


def directly(folder, embedded, flip, unit, weighted):
    """Compute every rate by its definition, from the text files, one template and one threshold at a time."""
    (plain, mirrored), scores = embedded
    media = {}
    for line in (folder / "meta" / "ijbc_face_tid_mid.txt").read_text().splitlines():
        name, template, medium = line.split()
        one = plain[name] + mirrored[name] if flip else plain[name]
        one = one / np.linalg.norm(one) if unit else one
        one = one * scores[name] if weighted else one
        media.setdefault(template, {}).setdefault(medium, []).append(one)
    templates = {}
    for template, inside in media.items():
        pooled = sum(np.mean(images, axis=0) for images in inside.values())
        templates[template] = pooled / np.linalg.norm(pooled)
    same, different = [], []
    for line in (folder / "meta" / "ijbc_template_pair_label.txt").read_text().splitlines():
        one, other, label = line.split()
        (same if label == "1" else different).append(float(templates[one] @ templates[other]))
    tar = {f"{far:g}": passed(same, different, far) for far in FARS}
    subjects = {}
    for part in ("gallery_G1", "gallery_G2", "probe_mixed"):
        lines = (folder / "meta" / f"ijbc_1N_{part}.csv").read_text().splitlines()[1:]
        subjects[part] = dict(line.split(",")[:2] for line in lines)
    searched = {}
    for part in ("G1", "G2"):
        gallery, ranks, firsts, alarms = subjects[f"gallery_{part}"], [], [], []
        for probe, subject in subjects["probe_mixed"].items():
            found = sorted(((templates[probe] @ templates[one], who) for one, who in gallery.items()), reverse=True)
            order = [who for _, who in found]
            if subject in order:
                ranks.append(1 + order.index(subject))
                firsts.append(found[0][0] if ranks[-1] == 1 else -9)
            else:
                alarms.append(found[0][0])
        searched[part] = {
            "identities": len(gallery),
            "mated": len(ranks),
            "non_mated": len(alarms),
            "rank": {str(rank): np.mean([one <= rank for one in ranks]) for rank in RANKS},
            "tpir": {f"{fpir:g}": passed(firsts, alarms, fpir) for fpir in FPIRS},
        }
    return tar, searched


def passed(right, wrong, rate):
    """Return the share of scores to accept above the smallest threshold with at most a share of the scores to reject."""
    if rate * len(wrong) < 1:
        return None
    threshold = min(t for t in wrong if sum(score > t for score in wrong) <= rate * len(wrong))
    return sum(score > threshold for score in right) / len(right)


@pytest.mark.parametrize(
    ("options", "flip", "unit", "weighted"),
    [
        ([], True, False, False),
        (["--no-flip", "--unit"], False, True, False),
        (["--detector-score"], True, False, True),
    ],
)
def test_the_command_gives_the_rates_of_a_direct_computation(
    folder, embedded, teacher_prefix, tmp_path, capsys, options, flip, unit, weighted
):
    result = tmp_path / "result.json"
    assert main(["ijb", str(teacher_prefix), str(folder), "--json", str(result), *options]) == 0
    tar, searched = directly(folder, embedded, flip, unit, weighted)
    found = json.loads(result.read_text())
    assert {key: found[key] for key in ("set", "images", "templates", "flip", "unit", "detector_scores")} == {
        "set": "ijbc",
        "images": 84,
        "templates": 36,
        "flip": flip,
        "unit": unit,
        "detector_scores": weighted,
    }
    assert found["1:1"]["tar"] == pytest.approx(tar)
    assert (found["1:1"]["same"], found["1:1"]["different"]) == (24, 264)
    assert 0 < tar["0.1"] < 1
    assert tar["0.001"] is None
    for part, rates in searched.items():
        assert {key: found["1:N"][part][key] for key in rates} == {
            key: pytest.approx(value) for key, value in rates.items()
        }
    assert 0 < searched["G1"]["rank"]["1"] < 1
    assert 0 < searched["G1"]["tpir"]["0.1"] < 1
    assert searched["G1"]["tpir"]["0.01"] is None
    for kind, key in (("rank", "1"), ("tpir", "0.1")):
        expected = [rates[kind][key] for rates in searched.values()]
        mean = None if None in expected else np.mean(expected)
        assert found["1:N"]["mean"][kind][key] == pytest.approx(mean)
    out = capsys.readouterr().out
    assert "ijbc: 84 images in 36 templates\n" in out
    assert re.search(rf"^ +0\.1 +{tar['0.1']:.4f} ", out, re.M)
    assert re.search(r"^ *1e-05 +- +-$", out, re.M)


def test_faces_are_cut_out_where_they_were_drawn(drawn_and_folder):
    drawn, folder = drawn_and_folder
    template_set = read_template_set(folder)
    read = face_reader(template_set)
    for row in range(0, 84, 5):
        face = read(row).astype(float)
        inner = (slice(15, 97), slice(15, 97))  # the canvas shows what a turned face is cut off at
        assert np.abs(face - drawn[template_set.names[row]])[inner].mean() < 6


def test_one_protocol_needs_only_its_files(own_folder, teacher_prefix, capsys, tmp_path):
    for path in (own_folder / "meta").glob("*_1N_*"):
        path.unlink()
    table = tmp_path / "table.md"
    given = ["ijb", str(teacher_prefix), str(own_folder), "--protocol", "1:1", "--markdown", str(table)]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "1:1, 24 pairs of one identity, 264 of different identities" in out
    assert "1:N" not in out
    lines = table.read_text().splitlines()
    assert lines[2:4] == ["| FAR | TAR | cosine above |", "| --- | --- | --- |"]
    assert lines[-1] == "| 1e-06 | - | - |"
    assert "ijbc_1N_probe_mixed.csv" in refused(capsys, *given[:3])


def test_images_that_cannot_be_read_are_all_named_and_left_out_only_when_asked(
    own_folder, teacher_prefix, capsys, tmp_path
):
    images = own_folder / "loose_crop"
    (images / "3.png").write_bytes(b"hello")
    (images / "20.png").write_bytes(encode_jpeg(np.full((260, 280, 3), 9, np.uint8))[:-30])
    given = ["ijb", str(teacher_prefix), str(own_folder)]
    message = refused(capsys, *given)
    assert "2 of 84 images cannot be read: " in message
    assert "3.png: 5 bytes that are not an image" in message
    assert "20.png is a JPEG that is cut" in message
    assert message.endswith("--skip-unreadable leaves them out")
    (images / "30.png").unlink()
    result = tmp_path / "result.json"
    assert main([*given, "--skip-unreadable", "--json", str(result)]) == 0
    out = capsys.readouterr().out
    assert "ijbc: 81 images in 36 templates\n" in out
    assert out.count("left out: ") == 3
    assert list(json.loads(result.read_text())["unreadable"]) == ["3.png", "20.png", "30.png"]


def test_an_image_that_is_left_out_has_no_weight(folder, embedded):
    template_set = read_template_set(folder)
    trials = read_trials(template_set)
    (plain, _), _ = embedded
    rows = np.stack([plain[name] for name in template_set.names])
    # The second frame of the first gallery template's video stands for the first.
    left, kept = list(template_set.names).index("2.png"), list(template_set.names).index("3.png")
    copied = rows.copy()
    copied[left] = rows[kept]
    spoilt = rows.copy()
    spoilt[left] = 1e6
    expected = score_templates(template_set, trials, copied, None)
    assert score_templates(template_set, trials, spoilt, None, unreadable={left}) == expected
    assert score_templates(template_set, trials, spoilt, None) != expected


def test_a_template_without_any_image_left_is_named(folder):
    template_set = read_template_set(folder)
    gone = set(np.flatnonzero(np.isin(template_set.names, ["1.png", "2.png", "3.png"])))
    with pytest.raises(DataError, match=r"1 template\(s\) have no image that can be read, for example template 1000"):
        score_templates(template_set, read_trials(template_set), np.ones((84, 4)), None, unreadable=gone)


def test_an_image_with_points_far_outside_is_unreadable(own_folder):
    path = own_folder / "meta" / "ijbc_name_5pts_score.txt"
    lines = path.read_text().splitlines()
    lines[1] = "2.png 9000 9000 9040 9000 9020 9020 9000 9040 9040 9040 0.5"
    path.write_text("\n".join(lines))
    done = []
    found = find_unreadable(84, face_reader(read_template_set(own_folder)), progress=done.append)
    assert list(found) == [1]
    assert "2.png: points (9000, 9000)" in found[1]
    assert "far outside" in found[1]
    assert sum(done) == 84


def test_an_onnx_file_has_the_rates_of_its_checkpoint(folder, teacher_prefix, tmp_path):
    file, found = tmp_path / "model.onnx", []
    export_onnx(teacher_prefix, 0, file)
    for model in (teacher_prefix, file):
        result = tmp_path / "result.json"
        assert main(["ijb", str(model), str(folder), "--json", str(result)]) == 0
        found.append(json.loads(result.read_text()))
    one, other = (each["1:1"]["threshold"] for each in found)
    assert one["0.1"] is not None
    assert one == {far: pytest.approx(value, abs=1e-4) for far, value in other.items()}


def test_malformed_files_are_one_line_of_error(own_folder, teacher_prefix, capsys):
    path = own_folder / "meta" / "ijbc_template_pair_label.txt"
    path.write_text(path.read_text().replace("\n", "\n1000 987 5\n", 1))
    message = refused(capsys, "ijb", teacher_prefix, own_folder)
    assert message.endswith(
        "ijbc_template_pair_label.txt: line 2: label 5, expected 1 for the same subject or 0 for different ones"
    )


def test_lineage_checkpoint_distinguishes_real_identities(real_faces, tmp_path):
    from vargfacenet.data import RecordSet
    from vargfacenet.deploy.models import open_model
    from vargfacenet.eval.embed import embed_images
    from vargfacenet.eval.protocols.identification import identification, search
    from vargfacenet.eval.protocols.templates import pair_scores, pool_templates, verify_templates
    from vargfacenet.formats.images import decode_image

    # 20 identities, two templates each of three images: one for the gallery, one searched.
    records = RecordSet(real_faces / "train")
    labels = {}
    for key in records.keys[:2000]:
        record = records.read(int(key))
        labels.setdefault(float(record.labels[0]), []).append(record.image)
    chosen = [images[:6] for images in labels.values() if len(images) >= 6][:20]
    encoded = [image for images in chosen for image in images]
    embedder = open_model(real_faces / "teacher" / "model").embedder
    plain, mirrored = embed_images(embedder, len(encoded), lambda place: decode_image(encoded[place], "a face"))
    places = np.arange(len(encoded))
    pooled = pool_templates(plain, mirrored, places, places // 3, places).embeddings
    count = len(chosen)
    first, second = (side.ravel() for side in np.meshgrid(2 * np.arange(count), 2 * np.arange(count) + 1))
    found = verify_templates(pair_scores(pooled, first, second), first // 2 == second // 2, fars=(0.01,))
    assert found.tar["0.01"] > 0.95
    known = count // 2
    rates = identification(search(pooled[1::2], np.arange(count), pooled[0 : 2 * known : 2], np.arange(known)))
    assert rates.rank["1"] > 0.9
    assert rates.tpir["0.1"] > 0.8
