"""``vargfacenet verify``: what it prints and writes, and its report in a browser."""

import json
import pathlib
import re

import pytest

from tests.helpers.browser import open_browser
from tests.helpers.command_line import refused
from tests.helpers.networks import save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.commands.model_arguments import parse_model, short_names
from vargfacenet.deploy import export_onnx
from vargfacenet.eval import read_pairs, write_pairs


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("student") / "model"
    save_random_checkpoint(prefix, "vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=8)
    return str(prefix)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return ["--cache", str(tmp_path_factory.mktemp("cache"))]


@pytest.fixture(scope="module")
def report(tmp_path_factory, prefix, teacher_prefix, pairs_file, cache):
    """The report of two networks."""
    folder = tmp_path_factory.mktemp("report") / "of" / "two"
    models = [prefix, f"{teacher_prefix},0"]
    assert main(["verify", *models, "--bins", str(pairs_file), "--report", str(folder), *cache]) == 0
    return folder


def test_prints_a_table_and_writes_json_and_markdown(capsys, prefix, pairs_file, tmp_path, cache):
    files = ["--json", str(tmp_path / "out.json"), "--markdown", str(tmp_path / "out.md")]
    assert main(["verify", prefix, "--epoch", "0", "--bins", str(pairs_file), *files, *cache]) == 0
    printed = capsys.readouterr().out
    ((network, sets),) = json.loads((tmp_path / "out.json").read_text()).items()
    score = sets["stripes"]
    assert f"stripes  {score['accuracy']:.5f} +- {score['std']:.5f}" in printed
    assert "Smaller false accept rates need more than 20 pairs of different identities." in printed
    assert "1e-05" not in printed
    assert score["pairs"] == 40
    low, high = score["accuracy_interval_over_pairs"]
    assert low <= score["accuracy"] <= high
    assert [rate["far"] for rate in score["rates"]] == [0.1, 0.01, 0.001, 0.0001, 1e-5, 1e-6]
    assert f"| {network} | {100 * score['accuracy']:.2f} +- {100 * score['std']:.2f} | - |" in (
        (tmp_path / "out.md").read_text()
    )


def test_an_onnx_file_gives_the_table_of_its_checkpoint(prefix, pairs_file, tmp_path, cache):
    export_onnx(prefix, 0, tmp_path / "student.onnx", target="onnxruntime")
    models = [prefix, str(tmp_path / "student.onnx")]
    assert main(["verify", *models, "--bins", str(pairs_file), "--json", str(tmp_path / "out.json"), *cache]) == 0
    one, other = (sets["stripes"] for sets in json.loads((tmp_path / "out.json").read_text()).values())
    assert one["accuracy"] == other["accuracy"]
    assert one["embedding_norm"] == pytest.approx(other["embedding_norm"], rel=1e-4)
    assert one["equal_error"]["threshold"] == pytest.approx(other["equal_error"]["threshold"], abs=1e-4)


def test_the_teacher_and_its_onnx_file_give_one_table(real_faces, tmp_path, cache):
    pairs, teacher = read_pairs(real_faces / "lfw.bin"), str(real_faces / "teacher" / "model")
    chosen = range(0, 6000, 60)
    images = [pairs.images[2 * pair + side] for pair in chosen for side in (0, 1)]
    write_pairs(tmp_path / "some.bin", images, pairs.is_same[list(chosen)])
    export_onnx(teacher, 0, tmp_path / "teacher.onnx")
    models, result = [teacher, str(tmp_path / "teacher.onnx")], tmp_path / "out.json"
    assert main(["verify", *models, "--bins", str(tmp_path / "some.bin"), "--json", str(result), *cache]) == 0
    one, other = (sets["some"] for sets in json.loads(result.read_text()).values())
    assert one["accuracy"] > 0.95
    for name in ("accuracy", "std", "accuracy_no_flip", "threshold", "embedding_norm"):
        assert one[name] == pytest.approx(other[name], abs=1e-4 * max(1, one[name]))
    for rate, again in zip(one["rates"], other["rates"]):
        assert (rate["tar"], rate["threshold"]) == pytest.approx((again["tar"], again["threshold"]), abs=1e-4)


def test_rates_of_several_networks_stand_side_by_side(capsys, prefix, teacher_prefix, pairs_file, cache):
    arguments = ["verify", prefix, f"{teacher_prefix},0", "--bins", str(pairs_file), "--json", "-", *cache]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)  # with -, tables go to standard error
    lines = captured.err.splitlines()
    start = lines.index("stripes, all pairs at once: TAR and its 95% interval")
    end = lines.index("Smaller false accept rates need more than 20 pairs of different identities.")
    header, rows = lines[start + 1], [re.split(r" {2,}", line.strip()) for line in lines[start + 3 : end]]
    assert re.split(r" {2,}", header.strip()) == ["FAR", *found]
    expected = []
    for rates in zip(*(sets["stripes"]["rates"] for sets in found.values())):
        if rates[0]["tar"] is not None:
            cells = [f"{one['tar']:.4f} ({one['low']:.4f} .. {one['high']:.4f})" for one in rates]
            expected.append([f"{rates[0]['far']:g}", *cells])
    assert rows == expected != []


def test_rates_that_are_asked_for_are_the_ones_shown(capsys, prefix, pairs_file, cache):
    assert main(["verify", prefix, "--bins", str(pairs_file), "--far", "0.25", *cache]) == 0
    assert re.search(r"^ *0\.25 +[01]\.\d{4}", capsys.readouterr().out, re.MULTILINE)


def test_the_page_holds_all_it_shows(report):
    page = (report / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("data:image/png") == 4
    assert page.count("data:image/jpeg") == 2 * (2 * 2 * 8 + 8)  # networks; kinds, images and pairs; single images
    assert {path.name for path in report.iterdir()} == {
        "index.html",
        "verification.json",
        "verification.md",
        *(f"{name}-stripes.png" for name in ("roc", "scores", "folds", "norms")),
    }


def test_the_page_marks_what_is_wrong_at_the_threshold(report):
    page = (report / "index.html").read_text()
    for sets in json.loads((report / "verification.json").read_text()).values():
        threshold = 1 - sets["stripes"]["threshold"] / 2
        part = page[page.index("Different identities, most similar") :]
        first = re.search(r"<figcaption>(-?[\d.]+) <span class=\"(\w+)\">", part)
        assert (float(first.group(1)) > threshold) == (first.group(2) == "wrong")
        page = part[100:]


def test_the_page_opens_in_a_browser(report):
    with open_browser(width=1200, height=900) as browser:
        browser.open((report / "index.html").as_uri())
        assert browser.run("return document.title") == "Verification"
        loaded = "return [...document.images].map(one => one.complete && one.naturalWidth > 0)"
        images = browser.run(loaded)
        assert len(images) == 84
        assert all(images)
        assert browser.run("return document.querySelectorAll('table').length") == 3
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.console_errors() == []


def test_names_of_networks_cannot_run_in_the_page(prefix, pairs_file, tmp_path, cache):
    name = tmp_path / "<script>alert(1)<" / "img src=x>"
    save_random_checkpoint(name, "vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=8)
    assert main(["verify", str(name), "--bins", str(pairs_file), "--report", str(tmp_path / "r"), *cache]) == 0
    page = (tmp_path / "r" / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_second_time_embeds_nothing(monkeypatch, prefix, pairs_file, cache):
    from vargfacenet.eval import Embedder

    arguments = ["verify", prefix, "--bins", str(pairs_file), *cache]
    assert main(arguments) == 0
    counts, embed = [], Embedder.embed_batch
    monkeypatch.setattr(Embedder, "embed_batch", lambda self, faces: counts.append(len(faces)) or embed(self, faces))
    assert main(arguments) == 0
    assert counts == [1]  # to know the size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "a", "--bins", "x.bin"], "a is given twice"),
        (["a", "--bins", "x.bin", "--far", "0"], "--far=0.0: expected between 1e-12 and 0.5"),
        (["a", "--bins", "lfw", "--folder", "nowhere"], "no verification set 'lfw'"),
        (["a", "--bins", "x.bin", "--batch-size", "0"], "--batch-size=0"),
        (["a", "--bins", "x.bin"], "cannot read x.bin"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert main(["verify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_networks_are_called_by_what_tells_them_apart():
    assert short_names(["/a/b/c/model"]) == {"/a/b/c/model": "c/model"}
    assert short_names(["runs/x/best", "runs/y/best"]) == {"runs/x/best": "x/best", "runs/y/best": "y/best"}
    assert short_names(["x/a/best", "y/a/best"]) == {"x/a/best": "x/a/best", "y/a/best": "y/a/best"}


def test_an_epoch_may_stand_behind_a_comma():
    assert parse_model("m/model,12", 3) == ("m/model", 12)
    assert parse_model("m/model", 3) == ("m/model", 3)
    assert parse_model("m/a,b", 3) == ("m/a,b", 3)


def test_a_cache_that_cannot_be_written_is_named_and_done_without(prefix, pairs_file, monkeypatch, caplog, capsys):
    monkeypatch.setattr("vargfacenet.eval.cache.cache_folder", lambda: pathlib.Path("/proc/none"))
    assert main(["verify", prefix, "--bins", str(pairs_file)]) == 0
    assert "cannot write the cache /proc/none/embeddings" in caplog.text
    assert "Set XDG_CACHE_HOME to a folder that you may write" in caplog.text
    assert main(["verify", prefix, "--bins", str(pairs_file), "--cache", "/proc/none"]) == 2
    assert "/proc/none" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["no/model", "no/model.onnx"])
def test_all_models_are_checked_before_the_first_one_is_opened(capsys, prefix, pairs_file, monkeypatch, missing):
    monkeypatch.setattr("vargfacenet.commands.verify.open_named", lambda *_, **__: pytest.fail("a model was opened"))
    message = refused(capsys, "verify", prefix, missing, "--bins", pairs_file)
    assert message.startswith("vargfacenet verify: error: ")
    assert missing in message
    assert "no such file" in message or "no checkpoint file" in message
