"""``vargfacenet bench``: what it prints is what it writes."""

import json
import subprocess
import sys

import pytest

from tests.helpers.contenders import take_turns_here
from vargfacenet.bench import contests, measure
from vargfacenet.commands import bench, main

SMALL = ["--set", "multiplier=0.25", "units=1,1,1", "embedding_size=16", "--batch-size", "2", "--rounds", "2"]


@pytest.fixture
def here(monkeypatch):
    """Contenders do their work in this process; that they have processes of their own is tested in test_rounds.py."""
    monkeypatch.setattr(bench, "take_turns", take_turns_here)


@pytest.mark.usefixtures("here")
def test_bench_prints_tables_and_writes_json_and_an_image(capsys, tmp_path, face_folder):
    path, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    options = ["--updates", "1", "--data", str(face_folder), "--json", str(path), "--plot", str(plot)]
    assert main(["bench", "train", *SMALL, *options]) == 0
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    trained, fed = report["contests"]
    # Where PyTorch is installed, its engine's forms follow.
    names = [row["name"] for row in trained["rows"] if not row["name"].startswith("engine torch")]
    assert names[-2:] == ["ours, basic", "stock MXNet operators"]
    for row in trained["rows"]:
        assert row["name"] in printed
        assert len(row["rounds"]) == 2
        assert row["median"] > 0
        assert f"{row['peak_mib']:.0f} MiB at most" in printed
    assert 0 <= fed["rows"][0]["waited"] <= 1
    assert report["machine"]["processor"] in printed
    assert f"instruction sets {report['machine']['instruction sets']}" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("here")
def test_bench_compares_numbers_of_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(contests, "usable_cores", lambda: 2)
    path, sizes = tmp_path / "bench.json", [*SMALL[:-1], "1", "--updates", "1"]
    assert main(["bench", "threads", *sizes, "--json", str(path)]) == 0
    found = json.loads(path.read_text())["contests"]
    assert [contest["title"].split(",")[0] for contest in found] == ["training", "embedding", "embedding"]
    for contest in found:
        assert [row["name"] for row in contest["rows"]] == ["2 threads", "1 thread"]
        assert all(row["median"] > 0 for row in contest["rows"])


def test_all_cores_take_part_where_their_number_is_no_power_of_two(monkeypatch):
    monkeypatch.setattr(contests, "usable_cores", lambda: 6)
    for contest in contests.scaling("vargfacenet", {}, batch_size=2, updates=1):
        assert [one.environment for one in contest.contenders] == [{"OMP_NUM_THREADS": count} for count in "6421"]


@pytest.mark.usefixtures("here")
def test_bench_measures_input_on_a_set(monkeypatch, face_folder, tmp_path):
    monkeypatch.setattr(bench, "INPUT_IMAGES", 128)
    path = tmp_path / "bench.json"
    sizes = ["--batch-size", "8", "--rounds", "1"]
    assert main(["bench", "input", *sizes, "--data", str(face_folder), "--json", str(path)]) == 0
    (contest,) = json.loads(path.read_text())["contests"]
    assert len(contest["rows"]) == 3
    assert all(row["median"] > 0 for row in contest["rows"])


def test_bench_profiles_an_update(capsys, face_folder, tmp_path):
    path = tmp_path / "bench.json"
    assert main(["bench", "profile", *SMALL, "--rounds", "1", "--updates", "1", "--json", str(path)]) == 0
    (contest,) = json.loads(path.read_text())["contests"]
    assert contest["rows"][1]["milliseconds"]["_backward_LeakyReLU"] > 0
    assert "in convolutions and matrix products" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_bench_measures_the_start(tmp_path):
    path = tmp_path / "bench.json"
    assert main(["bench", "start", "--rounds", "1", "--json", str(path)]) == 0
    rows = {row["name"]: row["median"] for row in json.loads(path.read_text())["contests"][0]["rows"]}
    assert rows["vargfacenet --help"] > 0
    assert rows["import vargfacenet, mxnet"] > 0


def test_help_comes_without_mxnet():
    command = [sys.executable, "-X", "importtime", "-m", "vargfacenet", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vargfacenet" in imported
    assert not imported & {"mxnet", "numpy", "cv2"}


def test_bench_measures_classifiers_by_their_size(capsys, tmp_path, monkeypatch):
    """Measured in this process; that each has a process of its own is tested in test_growth.py."""
    monkeypatch.setattr(measure, "_in_process", measure._measure)
    path, plot = tmp_path / "growth.json", tmp_path / "growth.png"
    assert main(["bench", "classifier", "--identities", "200", "--json", str(path), "--plot", str(plot)]) == 0
    runs = json.loads(path.read_text())["runs"]
    assert [(run["head"], run["sample_rate"]) for run in runs] == [("dense", 1.0), ("sharded", 1.0), ("sharded", 0.1)]
    assert all(run["seconds"] > 0 for run in runs)
    assert "sharded, 0.1 sampled" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classifier", "train"], "classifier is measured by itself"),
        (["train", "--rounds", "0"], "--rounds=0: expected between 1 and"),
        (["trian"], "did you mean 'train'"),
        (["input", "--data", "/no/such"], "no record file /no/such"),
        (["train", "--network", "nonsense"], "unknown network 'nonsense'"),
    ],
)
def test_bench_refuses_what_it_cannot_measure(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
