"""Folders of images for `embed` and `gallery`: bad images are skipped on request, and memory is bounded."""

import json

import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import image
from tests.helpers.networks import SMALL, save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.deploy import Gallery, export_onnx, gallery, load_model
from vargfacenet.formats.images import encode_png
from vargfacenet.models import default_model, list_models


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export_onnx(save_random_checkpoint(folder / "model", "vargfacenet", **SMALL), 0, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture
def people(tmp_path):
    """Two people with two images each, and an image of each kind of fault between them."""
    for name, identity in (("Ann", 0), ("Bo", 1)):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "people" / name / f"{number}.png").write_bytes(encode_png(image(identity, number)))
    (tmp_path / "people" / "Ann" / "00.png").write_bytes(b"hello")
    (tmp_path / "people" / "Ann" / "small.png").write_bytes(encode_png(np.zeros((50, 60, 3), np.uint8)))
    return tmp_path / "people"


GOOD = ["Ann/0.png", "Ann/1.png", "Bo/0.png", "Bo/1.png"]


def test_embed_skips_bad_images_and_lists_them(capsys, caplog, onnx_file, people, tmp_path):
    out = tmp_path / "out.npz"
    assert main(["embed", str(onnx_file), str(people), "--skip-bad", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"skipped: {people}/Ann/00.png: 5 bytes that are not an image")
    assert lines[1].startswith(f"skipped: {people}/Ann/small.png is 60x50 pixels, expected")
    assert lines[2].endswith("embeddings of 16 numbers of 4 image(s)")
    assert "2 of 6 images were skipped" in caplog.text
    expected = load_model(onnx_file).embed([image(identity, number) for identity in (0, 1) for number in (0, 1)])
    with np.load(out) as saved:
        assert saved["names"].tolist() == [str(people / name) for name in GOOD]
        np.testing.assert_allclose(saved["embeddings"], expected, atol=1e-6)


def test_without_skip_bad_the_error_names_the_option(capsys, onnx_file, people, tmp_path):
    out = tmp_path / "out.npz"
    message = refused(capsys, "embed", onnx_file, people, "--out", out)
    assert "00.png: 5 bytes that are not an image" in message
    assert message.endswith("; --skip-bad leaves such images out")
    assert not out.exists()
    assert "--skip-bad" in refused(capsys, "gallery", "add", tmp_path / "gallery", onnx_file, people)
    assert not (tmp_path / "gallery" / "gallery.npz").exists()


def test_a_folder_of_bad_images_alone_is_an_error(capsys, onnx_file, people, tmp_path):
    bad = people / "Ann" / "00.png"
    message = refused(capsys, "embed", onnx_file, bad, "--skip-bad", "--out", tmp_path / "out.npz")
    assert "none of 1 image(s) can be used; the first:" in message


def test_files_and_output_are_checked_before_the_model_is_opened(capsys, people, tmp_path):
    missing = [tmp_path / f"{number}.png" for number in range(7)]
    message = refused(capsys, "embed", "no-model", people, *missing, "--out", tmp_path / "out.npz")
    assert f"cannot read {missing[0]}, " in message
    assert message.endswith(f"{missing[4]} and 2 more: no such file or folder")
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(capsys, "embed", "no-model", people, "--out", tmp_path / "file" / "out.npz")


def test_a_gallery_is_filled_listed_searched_and_pruned(capsys, onnx_file, people, tmp_path):
    folder = str(tmp_path / "gallery")
    assert main(["gallery", "add", folder, str(onnx_file), str(people), "--skip-bad"]) == 0
    out = capsys.readouterr().out
    assert out.count("skipped: ") == 2
    assert out.endswith("4 added; 4 faces of 2 people\n")
    assert main(["gallery", "list", folder, "--json", str(tmp_path / "list.json")]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[2:4]] == [["Ann", "2"], ["Bo", "2"]]
    assert json.loads((tmp_path / "list.json").read_text()) == {"Ann": 2, "Bo": 2}
    found = tmp_path / "found.json"
    searching = ["gallery", "search", folder, str(onnx_file), str(people), "--skip-bad", "--top", "1"]
    assert main([*searching, "--json", str(found)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[4:]]
    assert rows == [[str(people / name), name.split("/")[0], "1.0000"] for name in GOOD]
    hits = json.loads(found.read_text())
    assert {name: [hit["name"] for hit in nearest] for name, nearest in hits["images"].items()} == {
        str(people / name): [name.split("/")[0]] for name in GOOD
    }
    assert len(hits["skipped"]) == 2
    assert "did you mean 'Ann'? there are Ann, Bo" in refused(capsys, "gallery", "remove", folder, "Anne")
    assert main(["gallery", "remove", folder, "Ann"]) == 0
    assert capsys.readouterr().out.endswith("2 removed; 2 faces of 1 people\n")
    assert Gallery(folder).names == ["Bo", "Bo"]
    np.testing.assert_allclose(
        Gallery(folder).embeddings, load_model(onnx_file).embed([image(1, 0), image(1, 1)]), atol=1e-6
    )
    assert main(["gallery", "remove", folder, "Bo"]) == 0
    assert main(["gallery", "add", folder, str(onnx_file), str(people / "Bo")]) == 0
    assert Gallery(folder).faces_by_name() == {"Bo": 2}


@pytest.mark.parametrize("action", [["list"], ["remove", "Ann"]])
def test_a_folder_that_is_not_a_gallery_is_named(capsys, tmp_path, action):
    message = refused(capsys, "gallery", action[0], tmp_path, *action[1:])
    assert "is not a gallery (it has no gallery.npz)" in message
    assert list(tmp_path.iterdir()) == []


def test_a_stop_keeps_the_portions_that_are_written(onnx_file, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "_PORTION", 2)
    model, asked = load_model(onnx_file, batch_size=2), []

    def read(place):
        asked.append(place)
        if place == 5:
            raise KeyboardInterrupt
        return image(place, 0)

    names, digests = [f"person {place}" for place in range(6)], [str(place) for place in range(6)]
    with pytest.raises(KeyboardInterrupt):
        Gallery(tmp_path).add_readable(model, read, names, digests)
    assert Gallery(tmp_path).names == names[:4]
    asked.clear()
    done = Gallery(tmp_path).add_readable(model, lambda place: image(place, 0), names, digests)
    assert (done.added, done.known) == (2, 4)


def test_images_are_read_only_a_few_batches_ahead_of_the_network(onnx_file):
    """What is read but not embedded is what memory holds."""
    model, read_ahead, embedded = load_model(onnx_file, batch_size=2), [], [0]
    count = [0]

    def read(place):
        count[0] += 1
        read_ahead.append(count[0] - embedded[0])
        return image(place % 3, place)

    def progress(images):
        embedded[0] += images

    model.embed_readable(40, read, progress=progress)
    assert count[0] == embedded[0] == 40
    assert max(read_ahead) <= 8


def test_without_a_model_the_bundled_network_is_taken(people, tmp_path, capsys, caplog):
    out = tmp_path / "out.npz"
    with caplog.at_level("INFO"):
        assert main(["embed", str(people / "Bo"), "--out", str(out)]) == 0
    bundled = default_model()
    assert f"model: {bundled.name} ({bundled.summary})" in caplog.text
    named = tmp_path / "named.npz"
    assert main(["embed", bundled.name, str(people / "Bo"), "--out", str(named)]) == 0
    np.testing.assert_array_equal(np.load(out)["embeddings"], np.load(named)["embeddings"])
    one = str(next((people / "Bo").glob("*.png")))
    assert main(["gallery", "add", str(tmp_path / "g"), str(people / "Bo")]) == 0
    assert main(["gallery", "search", str(tmp_path / "g"), one]) == 0
    assert f"above {bundled.threshold:.4f}" in capsys.readouterr().out
    assert "the arguments look swapped" in refused(capsys, "embed", one, bundled.name, "--out", str(out))
    assert "no images: give images" in refused(capsys, "embed", bundled.name, "--out", str(out))


def test_the_default_is_the_most_accurate_network():
    assert default_model().accuracy == max(model.accuracy for model in list_models())
