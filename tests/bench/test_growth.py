"""What is measured: that it is what was asked for, and that the plan foresees it."""

import json
import sys

import pytest

from vargfacenet import IMAGE_SHAPE
from vargfacenet.bench import growth, measure
from vargfacenet.bench.growth import draw_growth, measure_growth, planned_bytes
from vargfacenet.bench.measure import ClassifierTask, measure_classifier, measure_training
from vargfacenet.errors import TrainingError
from vargfacenet.train import memory
from vargfacenet.train.config import resolve
from vargfacenet.train.plan import Place, Workload, make_plan


def test_a_measured_classifier_takes_what_it_must():
    task = ClassifierTask("sharded", 20_000, embedding_size=128, batch_size=16, updates=1)
    found = measure_classifier(task)
    assert 0 < found["quickest"] <= found["seconds"] <= found["slowest"]
    assert 2 * 20_000 * 128 * 4 < found["bytes"] < planned_bytes(task._replace(batch_size=64)) + (48 << 20)


def test_a_measurement_that_fails_says_why(monkeypatch, tmp_path):
    """A Python that fails as an unknown kind of task makes it fail, without the seconds of importing MXNet."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho noise >&2\necho \"KeyError: 'no such'\" >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(TrainingError, match="'kind': 'no such'.* ended with status 3: KeyError: 'no such'"):
        measure._in_process({"kind": "no such", "updates": 1})


def test_growth_refuses_what_is_planned_over_its_limit_and_is_drawn(monkeypatch, tmp_path):
    measured = []

    def fake(task):
        measured.append((task.head, task.identities))
        return {"seconds": task.identities / 1e6, "bytes": planned_bytes(task), "quickest": 0, "slowest": 0}

    monkeypatch.setattr(growth, "measure_classifier", fake)
    report = measure_growth([1000, 1_000_000], limit=8 << 30)
    assert ("dense", 1000) in measured
    assert ("dense", 1_000_000) not in measured
    assert ("sharded", 1_000_000) in measured
    refused = [run for run in report["runs"] if "seconds" not in run]
    assert [(run["head"], run["planned"] > 8 << 30) for run in refused] == [("dense", True)]
    draw_growth(json.loads(json.dumps(report)), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"


MEASURED = [
    ({"multiplier": 0.25, "units": "1,1,1", "batch_size": 24, "embedding_size": 128}, 1000, 1),
    ({"multiplier": 0.25, "units": "1,1,1", "batch_size": 24, "embedding_size": 128}, 100_000, 2),
    ({"batch_size": 16}, 2000, 1),
    ({"batch_size": 16, "loss": "softmax"}, 50_000, 1),
    ({"batch_size": 16, "accumulate": 2}, 2000, 1),
    ({"network": "resnet50", "batch_size": 8}, 2000, 1),
    # Networks with many convolutions that MXNet computes itself.
    ({"network": "mobilefacenet", "batch_size": 8}, 2000, 1),
    ({"network": "ghostfacenet", "batch_size": 8}, 2000, 1),
    ({"network": "pocketnet", "batch_size": 8}, 2000, 1),
    ({"multiplier": 0.5, "batch_size": 32, "embedding_size": 128, "head": "sharded"}, 300_000, 2),
    ({"multiplier": 0.25, "batch_size": 32, "head": "sharded", "sample_rate": 0.1}, 300_000, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "identities", "devices"), MEASURED)
def test_plans_are_within_15_percent_of_measured_peaks(settings, identities, devices):
    settings = {**settings, "max_updates": 100, "warmup_updates": 0}
    config = resolve("student_scratch", settings)
    plan = make_plan(config, Place("cpu", devices), Workload(identities=identities, images=1000))
    # The measured run is given one batch again and again.
    planned = plan.total - plan.host["input"] + memory.input_bytes(config.batch_size, *IMAGE_SHAPE)
    found = measure_training("student_scratch", settings, identities, devices=devices, updates=2)["bytes"]
    assert planned == pytest.approx(found, rel=0.15), f"{planned / 2**20:.0f} MiB planned, {found / 2**20:.0f} measured"
