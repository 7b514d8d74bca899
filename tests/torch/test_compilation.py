"""``compile=true`` where a machine can do it, and where it cannot."""

import logging

import pytest
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor import config

from vargfacenet.torch import compilation
from vargfacenet.torch.compilation import compiled, missing_for

CPU = torch.device("cpu", 0)


def test_a_machine_without_a_compiler_goes_on_without_and_says_so(caplog):
    module = nn.Linear(2, 2)
    with config.patch({"cpp.cxx": (None, "no-such-compiler")}), caplog.at_level(logging.WARNING):
        assert compiled(module, CPU) is module
    assert "compile=true: kernels for a CPU need a C++ compiler (apt install g++)" in caplog.text


def test_a_trial_that_fails_is_the_reason_to_go_on_without(monkeypatch, caplog):
    def refuse(function):
        raise TorchDynamoException("\nPython.h: No such file\nmore lines")

    module = nn.Linear(2, 2)
    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(compilation, "missing_for", lambda device: None)
    assert compiled(module, CPU) is module
    assert "compile=true: a trial failed (Python.h: No such file); training continues" in caplog.text


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_noticed_before_the_first_update(caplog):
    module = nn.Linear(2, 2)
    with config.patch({"cpp.cxx": (None, "false")}), caplog.at_level(logging.WARNING):
        assert compiled(module, CPU) is module
    assert "compile=true: a trial failed (InvalidCxxCompiler: No working C++ compiler found" in caplog.text


def test_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "triton" else object())
    assert "need Triton" in missing_for(torch.device("cuda", 0))


@pytest.mark.parametrize(
    ("capability", "compilers", "missing"),
    [
        ((9, 0), ["gcc"], None),
        ((7, 0), ["clang"], None),
        ((6, 1), ["gcc"], "need compute capability 7.0, and cuda:0 has 6.1"),
        ((9, 0), [], "needs a compiler (apt install gcc), and none is in PATH"),
    ],
)
def test_a_gpu_needs_what_triton_needs(capability, compilers, missing, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr("shutil.which", lambda name: name if name in compilers else None)
    monkeypatch.delenv("CC", raising=False)
    said = missing_for(torch.device("cuda", 0))
    assert said is None if missing is None else missing in said


@pytest.mark.skipif(missing_for(CPU) is not None, reason="torch.compile lacks something here")
def test_with_a_compiler_the_module_is_compiled(monkeypatch):
    # A trial that compiles takes seconds; `test_a_compiled_graph_trains_alike` makes it.
    monkeypatch.setattr(compilation, "_fault_of_trial", lambda device: None)
    assert type(compiled(nn.Linear(2, 2), CPU)).__name__ == "OptimizedModule"
