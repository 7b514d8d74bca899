"""Passes recorded as CUDA graphs, as far as a machine without a GPU can show it; the rest is in test_gpu.py."""

import contextlib

import pytest
import torch
from torch import nn

from tests.helpers.training import tiny
from vargfacenet.errors import SettingError
from vargfacenet.torch.capture import captured
from vargfacenet.train.config import resolve
from vargfacenet.train.plan import Place, Workload, make_plan
from vargfacenet.train.run import train
from vargfacenet.train.runtime import Runtime

SHAPES = {"data": (4, 3), "softmax_label": (4,)}


class Normalized(nn.Module):
    """Moves its running statistics, as recording does."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, data, label):
        return self.norm(data), label


@pytest.fixture
def recorded(monkeypatch):
    """What is recorded, on which device: kernels run on a CPU here."""
    current, found = [], []

    @contextlib.contextmanager
    def device(value):
        current.append(value)
        yield
        current.pop()

    def record(module, inputs, **options):
        module(*inputs)
        found.append((list(current), [tuple(value.shape) for value in inputs], options))
        return module

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return found


def test_recording_is_on_the_device_of_the_images_and_changes_no_statistics(recorded):
    module, images = Normalized(), torch.rand(4, 3)
    before = {name: value.clone() for name, value in module.named_buffers()}
    captured(module, SHAPES, images)
    assert recorded == [([images.device], [(4, 3), (4,)], {"allow_unused_input": True})]
    for name, value in module.named_buffers():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (
            RuntimeError("operation not permitted\nmore"),
            SettingError,
            r"be recorded \(operation not permitted\); leave",
        ),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), torch.cuda.OutOfMemoryError, "out of memory"),
    ],
)
def test_what_cannot_be_recorded_says_so_and_want_of_memory_stays_that(fault, kind, message, recorded, monkeypatch):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    with pytest.raises(kind, match=message):
        captured(Normalized(), SHAPES, torch.rand(4, 3))


@pytest.mark.parametrize("check_memory", [True, False])
def test_a_cpu_has_no_graphs_and_nothing_is_written(check_memory, face_folder, tmp_path):
    config = tiny(engine="torch", cuda_graphs=True, check_memory=check_memory)
    with pytest.raises(SettingError, match="cuda_graphs=true on .*: only a GPU has them"):
        train(config, data=face_folder, out=tmp_path / "out", runtime=Runtime([torch.device("cpu", 0)]))
    assert not (tmp_path / "out").exists()


def test_a_network_with_dropout_is_refused_before_anything_is_written(face_folder, tmp_path):
    settings = {"engine": "torch", "cuda_graphs": True, "network": "iresnet18", "dropout": 0.4}
    config = resolve("demo_student_scratch", settings)
    with pytest.raises(SettingError, match="this network has dropout"):
        train(config, data=face_folder, out=tmp_path / "out", runtime=Runtime([torch.device("cpu", 0)]))
    assert not (tmp_path / "out").exists()


def test_the_plan_of_a_cpu_has_no_graphs():
    with pytest.raises(SettingError, match="only a GPU has them"):
        make_plan(tiny(cuda_graphs=True), Place("cpu", engine="torch"), Workload(10, 1000))
