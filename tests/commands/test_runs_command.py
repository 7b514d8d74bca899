"""``vargfacenet runs``: what run folders say, side by side."""

import json

import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.training import tiny
from vargfacenet.commands import main
from vargfacenet.formats.images import decode_image
from vargfacenet.train.comparison import read_run
from vargfacenet.train.run import train


def write_generation(folder, config, losses, accuracies=None):
    """A generation with a line of the log every ten updates, and scores of a set by update."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.to_json())
    (folder / "data.json").write_text(json.dumps({"images": 24, "identities": 4, "records": []}))
    lines = [
        {"update": 10 * number, "loss": loss, "cosine": 0.5, "images_per_second": 100.0 + number}
        for number, loss in enumerate(losses, 1)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if accuracies:
        scores = {update: {"lfw": {"accuracy": accuracy}} for update, accuracy in accuracies.items()}
        (folder / "verification.json").write_text(json.dumps(scores))


@pytest.fixture
def folder(tmp_path):
    """Three runs: one finished, one stopped with another rate, one of two generations without verification."""
    runs = tmp_path / "runs"
    write_generation(runs / "a", tiny(max_updates=30), [9.0, 8.0, 7.5], {0: 0.5, 20: 0.75, 30: 0.7})
    write_generation(runs / "b", tiny(max_updates=30, lr=0.25, scale=16), [9.0, 6.5], {20: 0.8})
    for number in (1, 2):
        write_generation(runs / "c" / f"generation-{number}", tiny(max_updates=20, generations=2), [5.0, 4.0 / number])
    (runs / "notes").mkdir()
    return runs


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_runs_are_listed_with_what_differs(capsys, folder):
    assert main(["runs", str(folder)]) == 0
    results, settings = capsys.readouterr().out.split("\nsettings that differ\n")
    assert rows(results)[0] == ["run", "updates", "of", "best", "lfw", "at", "loss", "cosine", "images/s"]
    assert rows(results)[2:] == [
        ["a", "30", "30", "0.75000", "20", "7.5000", "0.5000", "102.0"],
        ["b", "20", "30", "0.80000", "20", "6.5000", "0.5000", "101.5"],
        ["c", "40", "40", "-", "-", "2.0000", "0.5000", "101.5"],
    ]
    assert rows(settings)[0] == ["setting", "a", "b", "c"]
    found = {row[0]: row[1:] for row in rows(settings)[2:]}
    scale = str(tiny().loss_options["scale"])
    assert found == {
        "loss_options.scale": [scale, "16.0", scale],
        "lr": ["0.05", "0.25", "0.05"],
        "max_updates": ["30", "30", "20"],
        "generations": ["1", "1", "2"],
    }


def test_a_stopped_run_has_the_updates_of_its_state(folder):
    states = folder / "b" / "states"
    states.mkdir()
    (states / "update-000000023.json").write_text("{}")
    assert read_run(folder / "b").updates == 23


def test_json_holds_all_settings_and_the_curves_are_drawn(folder, tmp_path):
    out, plot = tmp_path / "runs.json", tmp_path / "curves.png"
    given = [str(folder / name) for name in ("b", "a")]
    assert main(["runs", *given, "--json", str(out), "--plot", str(plot)]) == 0
    found = json.loads(out.read_text())
    assert [run["path"] for run in found["runs"]] == given
    assert found["runs"][1]["best"] == {"generation": 1, "update": 20, "accuracy": {"lfw": 0.75}}
    assert found["runs"][0]["last"] == {"loss": 6.5, "cosine": 0.5}
    assert found["runs"][0]["settings"]["batch_size"] == 8
    assert found["runs"][0]["settings"]["data.images"] == 24
    assert found["different"]["lr"] == [0.25, 0.05]
    image = decode_image(plot.read_bytes(), "curves", shape=None).astype(int)
    assert image.shape[1] > 2 * image.shape[0]  # loss, cosine and lfw in a row
    # Each of the three panels shows both runs: blue and orange of matplotlib's cycle.
    for panel in np.array_split(image, 3, axis=1):
        for color in ((31, 119, 180), (255, 127, 14)):
            assert (np.abs(panel - color).max(axis=2) < 30).sum() > 10


def test_a_run_as_it_is_trained_is_listed(capsys, face_folder, pairs_file, tmp_path):
    train(tiny(callbacks="tensorboard"), data=face_folder, out=tmp_path / "run", bins=[pairs_file])
    capsys.readouterr()
    assert main(["runs", str(tmp_path / "run"), "--json", "-"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["updates"], run["all_updates"], run["generations"]) == (6, 6, 1)
    scores = json.loads((tmp_path / "run" / "verification.json").read_text())
    assert run["best"]["accuracy"]["stripes"] == max(scores[update]["stripes"]["accuracy"] for update in ("3", "6"))


def test_a_run_whose_network_is_not_installed_is_listed(capsys, folder):
    path = folder / "a" / "config.json"
    path.write_text(path.read_text().replace('"network": "vargfacenet"', '"network": "elsewhere"'))
    assert main(["runs", str(folder / "a"), str(folder / "b")]) == 0
    assert ["network", "elsewhere", "vargfacenet"] in rows(capsys.readouterr().out)


def test_a_damaged_run_is_left_out_with_a_warning(capsys, caplog, folder):
    (folder / "b" / "config.json").write_text("{")
    assert main(["runs", str(folder)]) == 0
    assert [row[0] for row in rows(capsys.readouterr().out)[2:4]] == ["a", "c"]
    assert "runs/b is left out: " in caplog.text
    assert str(folder / "b" / "config.json") in refused(capsys, "runs", folder / "b")


def test_mistakes_are_one_line(capsys, folder, tmp_path):
    assert "nowhere is not a folder" in refused(capsys, "runs", tmp_path / "nowhere")
    assert "no runs in" in refused(capsys, "runs", folder / "notes")
    assert "expected a name that ends in .png, .svg, .pdf" in refused(capsys, "runs", folder, "--plot", "curves.gif")


def test_links_are_followed_once(capsys, folder, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "all").symlink_to(folder)
    (folder / "back").symlink_to(tmp_path / "linked")
    assert main(["runs", str(tmp_path / "linked"), str(folder)]) == 0
    assert [row[0] for row in rows(capsys.readouterr().out.split("settings that")[0])[2:-1]] == ["a", "b", "c"]


def test_a_run_of_an_earlier_version_is_listed_with_the_names_of_today(folder):
    run = folder / "a"
    (run / "data.json").write_text(json.dumps({"pictures": 24, "identities": 4, "records": []}))
    with open(run / "log.jsonl", "a") as file:
        file.write(json.dumps({"update": 9, "loss": 1.5, "bad_pictures": 2}) + "\n")
    found = read_run(run)
    assert found.settings["data.images"] == 24
    assert "loss" in found.last
    assert "bad_pictures" not in found.last
