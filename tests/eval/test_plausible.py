"""Results that are not plausible are remarked on, by every command that computes them."""

import numpy as np
import pytest

from tests.helpers.ijb_set import make_ijb_set
from tests.helpers.images import image
from tests.helpers.networks import SMALL, save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.deploy.models import Model
from vargfacenet.eval import ImageEmbedder, plausible, read_pairs, read_sets, write_pairs
from vargfacenet.eval.features import write_features
from vargfacenet.eval.plausible import (
    CAUSES,
    accuracy_doubt,
    detail_doubts,
    rank_doubt,
    rates_doubt,
    template_doubts,
    threshold_doubt,
)
from vargfacenet.eval.protocols.detail import verify_in_detail
from vargfacenet.eval.report import Result, write_report
from vargfacenet.eval.report.page import page
from vargfacenet.formats.images import encode_png


def verified(same_noise, seed=0, pairs=400, offset=0.0):
    """The rates of random embeddings: of one identity they differ by noise, all have an offset in common."""
    random = np.random.RandomState(seed)
    is_same = np.arange(pairs) % 2 == 0
    first, second = random.normal(size=(2, pairs, 16))
    second[is_same] = first[is_same] + same_noise * random.normal(size=(is_same.sum(), 16))
    rows = np.stack([first, second], axis=1).reshape(-1, 16) + offset
    return verify_in_detail(rows, rows, is_same)


def test_a_good_verification_has_no_doubts():
    assert detail_doubts(verified(0.3)) == []


@pytest.mark.parametrize(("label", "kind"), [(True, "one identity"), (False, "different identities")])
def test_pairs_of_one_label_say_nothing_and_have_one_cause(label, kind, tmp_path, caplog):
    rows, is_same = np.random.RandomState(0).normal(size=(120, 16)), np.full(60, label)
    detail = verify_in_detail(rows, rows, is_same)
    assert detail_doubts(detail) == []
    set_file = tmp_path / "one.bin"
    write_pairs(set_file, [encode_png(image(0, 0))] * 120, is_same)
    read_sets([set_file])
    expected = f"all 60 pairs have the label of {kind}, so the accuracy means nothing: check the list"
    assert expected in caplog.text
    text = page([Result("network", "about", "one", detail)], [], version="1", date="today")
    assert expected in text
    assert "scaling of images" not in (text + caplog.text).lower()


def test_a_verification_of_noise_is_near_chance():
    detail = verified(100.0)
    assert detail_doubts(detail) == [f"accuracy {detail.verification.accuracy:.3f} is near chance (0.5)"]
    assert detail.verification.accuracy < 0.65


def test_embeddings_without_spread_show_in_pairs_and_thresholds():
    doubts = " ".join(detail_doubts(verified(0.3, offset=50.0)))
    assert "a threshold at a cosine of 1.0000 is at an end of its range" in doubts
    assert "pairs of different identities have a mean cosine of 1.000" in doubts


@pytest.mark.parametrize(
    ("doubt", "expected"),
    [
        (accuracy_doubt(0.6, 600), "accuracy 0.600 is near chance (0.5)"),
        (accuracy_doubt(0.6, 20), None),
        (accuracy_doubt(0.7, 600), None),
        (threshold_doubt([0.3, None, 0.9999]), "a threshold at a cosine of 0.9999 is at an end of its range (-1 .. 1)"),
        (threshold_doubt([-1.0]), "a threshold at a cosine of -1.0000 is at an end of its range (-1 .. 1)"),
        (threshold_doubt([0.3, None, 0.9]), None),
        (rates_doubt({"0.1": 0.12, "0.01": 0.9}, 600), "TAR 0.1200 at FAR 0.1 is near chance"),
        (rates_doubt({"0.1": None, "0.01": 0.012}, 600), "TAR 0.0120 at FAR 0.01 is near chance"),
        (rates_doubt({"0.1": 0.12}, 20), None),
        (rates_doubt({"0.1": 0.5, "1e-06": 0.0}, 600), None),
        (rates_doubt({"0.1": None}, 600), None),
        (rank_doubt({"1": 0.01, "5": 0.9}, 100, 60), "rank-1 0.0100 among 100 identities is near chance"),
        (rank_doubt({"1": 0.01}, 100, 20), None),
        (rank_doubt({"1": 0.1}, 2, 60), None),
        (rank_doubt({"1": 0.5}, 100, 60), None),
        (rank_doubt({"1": None}, 100, 60), None),
    ],
)
def test_a_doubt_needs_a_reason_and_enough_trials(doubt, expected):
    assert doubt == expected


def test_the_doubts_of_templates_are_those_of_both_protocols():
    gallery = {"identities": 100, "mated": 60, "rank": {"1": 0.01}, "threshold": {"0.1": 0.5}}
    one = {"tar": {"0.1": 0.1}, "same": 600, "threshold": {"0.1": 1.0}}
    found = template_doubts({"1:1": one, "1:N": {"G1": gallery, "mean": {}}})
    assert [doubt.split(" ")[0] for doubt in found] == ["TAR", "a", "rank-1"]


class Alike(ImageEmbedder):
    """Embeds all images nearly alike."""

    batch_size = 8

    def embed_batch(self, images):
        values = images[:, :, ::16, ::16].reshape(len(images), -1)
        return (1000 + (values - 128) / 128).astype(np.float32)


@pytest.fixture
def alike(monkeypatch):
    """Commands open a network that embeds all images alike, and few trials are enough for a doubt."""
    monkeypatch.setattr(plausible, "_FEWEST_PAIRS", 1)
    for command in ("ijb", "identify", "verify"):
        monkeypatch.setattr(
            f"vargfacenet.commands.{command}.open_named", lambda *_, **__: Model(Alike(), "alike", "mxnet", {})
        )


def test_verify_and_its_report_doubt(alike, caplog, pairs_file, tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", **SMALL)
    report = tmp_path / "report"
    assert main(["verify", str(prefix), "--bins", str(pairs_file), "--no-cache", "--report", str(report)]) == 0
    assert "nearly the same" in caplog.text
    assert "stripes: accuracy 0.500 is near chance (0.5); a threshold at a cosine of 1.0000 is" in caplog.text
    text = (report / "index.html").read_text()
    assert "Doubtful results" in text
    assert "is at an end of its range" in text


def test_a_page_of_good_results_has_no_doubts(pairs_file, tmp_path):
    pairs = read_pairs(pairs_file)
    random = np.random.RandomState(0)
    rows = random.normal(size=(len(pairs.is_same), 1, 16)).repeat(2, axis=1)
    rows[~pairs.is_same, 1] *= -1
    rows = rows.reshape(-1, 16) + 0.3 * random.normal(size=(2 * len(pairs.is_same), 16))
    page = write_report(tmp_path, [Result("n", "", "s", verify_in_detail(rows, rows, pairs.is_same))], {"s": pairs})
    assert "Doubtful" not in page.read_text()


def test_ijb_doubts(alike, caplog, tmp_path):
    make_ijb_set(tmp_path / "set")
    assert main(["ijb", "model", str(tmp_path / "set"), "--no-cache"]) == 0
    assert "nearly the same" in caplog.text
    assert "is at an end of its range" in caplog.text
    assert CAUSES in caplog.text


def test_identify_doubts(alike, caplog, tmp_path):
    for folder, identities, first in (("gallery", range(5), 0), ("probes", range(8), 10)):
        for identity in identities:
            (tmp_path / folder / str(identity)).mkdir(parents=True)
            for number in range(first, first + 2):
                (tmp_path / folder / str(identity) / f"{number}.png").write_bytes(encode_png(image(identity, number)))
    folders = ["--gallery", str(tmp_path / "gallery"), "--probes", str(tmp_path / "probes")]
    assert main(["identify", "model", *folders, "--no-cache", "--fpir", "0.5"]) == 0
    assert "nearly the same" in caplog.text
    assert f"{tmp_path / 'probes'}: rank-1 0.0000 among 5 identities is near chance; a threshold at" in caplog.text


def test_challenge_doubts(caplog, tmp_path):
    labels = np.arange(60).repeat(3)
    (tmp_path / "list.txt").write_text("".join(f"{row}.png {label}\n" for row, label in enumerate(labels)))
    noise = np.random.RandomState(0).normal(size=(180, 16)).astype(np.float32)
    for offset, doubt in ((0, "is near chance"), (100, "are nearly the same")):
        rows = noise + offset
        write_features(tmp_path / "f.bin", [rows / np.linalg.norm(rows, axis=1, keepdims=True)], 180)
        caplog.clear()
        assert main(["challenge", "score", str(tmp_path / "f.bin"), str(tmp_path / "list.txt"), "--far", "0.01"]) == 0
        assert doubt in caplog.text
    assert "is at an end of its range" in caplog.text


def test_export_doubts(alike, caplog, pairs_file, tmp_path, monkeypatch):
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", **SMALL)
    monkeypatch.setattr(plausible, "_CHANCE", 1.01)  # of any accuracy
    assert main(["export", str(prefix), str(tmp_path / "out.onnx"), "--verify", str(pairs_file)]) == 0
    for runtime in ("mxnet", "onnxruntime"):
        assert f"stripes, by {runtime}: accuracy" in caplog.text
