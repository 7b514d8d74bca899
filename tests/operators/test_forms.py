"""The forms of a convolution, native and MXNet's own: equal values, and the choice between them."""

import json
import logging

import mxnet as mx
import numpy as np
import pytest

from vargfacenet import threads
from vargfacenet.commands import main
from vargfacenet.errors import SettingError
from vargfacenet.operators import forms, runnable
from vargfacenet.operators.forms import Shape
from vargfacenet.symbols import get_symbol

pytestmark = pytest.mark.usefixtures("native")

SHAPES = [
    Shape(40, 14, 14, 25, 5, 3, 1),
    Shape(40, 14, 14, 80, 5, 3, 2),
    Shape(64, 7, 7, 40, 1, 1, 1),
    Shape(30, 9, 11, 12, 3, 1, 1),
    Shape(3, 20, 20, 40, 1, 3, 1),
    Shape(16, 7, 7, 16, 2, 7, 1),
]
TIMES = {"native": 2.0, "mxnet": 3.0}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Choice by measurement, with an empty cache; the shapes that are timed, each natively quicker."""
    timed = []

    def time_forms(shape):
        timed.append(shape)
        return dict(TIMES)

    monkeypatch.setenv(forms.VARIABLE, "measured")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(forms, "time_forms", time_forms)
    forms.keep_forms({})
    yield timed
    forms.keep_forms({})


def results(form, shape):
    """Output and gradients for random numbers."""
    random = np.random.RandomState(0)
    symbol = forms.convolution_symbol(form, shape, mx.sym.var("data"))
    executor = symbol.simple_bind(mx.cpu(), data=(3, shape.channels, shape.height, shape.width))
    for name in sorted(executor.arg_dict):
        executor.arg_dict[name][:] = random.normal(size=executor.arg_dict[name].shape)
    executor.forward(is_train=True)
    executor.backward(mx.nd.array(random.normal(size=executor.outputs[0].shape)))
    return [array.asnumpy() for array in (*executor.outputs, *executor.grad_arrays)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forms_agree(shape):
    for one, other in zip(results("native", shape), results("mxnet", shape)):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()
        assert np.linalg.norm(one - other) <= 1e-6 * np.linalg.norm(other)


def test_timing_has_a_progress_bar(measured, monkeypatch):
    shown = []
    monkeypatch.setattr(forms, "progress", lambda items, **_: shown.extend(items) or items)
    forms.choose_forms(SHAPES[:2])
    assert shown == SHAPES[:2]


def test_forms_are_really_timed():
    times = forms.time_forms(SHAPES[0], images=1, rounds=1)
    assert times.keys() == set(forms.FORMS)
    assert all(0 < value < float("inf") for value in times.values())


def test_forms_are_timed_on_one_thread(monkeypatch):
    """Threads that wait for others would count as work: on a busy machine, many times the work itself."""
    before, during = threads.threads_in_use(), []
    monkeypatch.setattr(forms, "_time_forms", lambda *_: during.append(threads.threads_in_use()))
    threads._run_in_worker(mx, lambda openmp: openmp.omp_set_num_threads(3))
    try:
        forms.time_forms(SHAPES[0])
        assert (during, threads.threads_in_use()) == ([1], 3)
    finally:
        threads._run_in_worker(mx, lambda openmp: openmp.omp_set_num_threads(before))


def test_each_shape_is_timed_once_and_the_choice_is_kept(measured, caplog):
    with caplog.at_level(logging.INFO):
        assert set(forms.choose_forms([SHAPES[0], SHAPES[0], SHAPES[1]]).values()) == {"native"}
    assert "timing 2 convolutions, native and MXNet's own, once on this processor" in caplog.text
    forms.choose_forms(SHAPES[:3])
    assert measured == SHAPES[:3]
    assert forms.forms_in_use() == {str(shape): "native" for shape in SHAPES[:3]}


def test_a_quicker_form_of_mxnet_is_taken_and_named(measured, monkeypatch, capsys):
    monkeypatch.setattr(forms, "time_forms", lambda shape: {"native": 2.0, "mxnet": 1.0 if shape.kernel == 1 else 1.9})
    found = forms.choose_forms(SHAPES)
    assert {shape for shape, form in found.items() if form == "mxnet"} == {SHAPES[2], SHAPES[3]}
    assert main(["doctor"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("convolutions")]
    assert "6 timed on this processor: 4 native, 2 MXNet's own (64x7x7-40-groups1-kernel1-stride1, 30x9x11" in line


def test_the_graph_has_the_form_that_was_chosen(measured, monkeypatch):
    monkeypatch.setattr(forms, "time_forms", lambda shape: {"native": 2.0, "mxnet": 1.0 if shape.kernel == 1 else 9.0})
    graph = json.loads(runnable(get_symbol("vargfacenet"), for_training=True, backend="native").tojson())
    kernels = {op: set() for op in ("Convolution", "vargfacenet_convolution")}
    for node in graph["nodes"]:
        if node["op"] in kernels:
            kernels[node["op"]].add(node["name"].rpartition("_")[2])
    assert "pointwise" in kernels["Convolution"]
    assert "pointwise" not in kernels["vargfacenet_convolution"]
    assert "depthwise" in kernels["vargfacenet_convolution"]


def test_a_training_state_keeps_its_forms(measured):
    forms.keep_forms({str(SHAPES[0]): "mxnet", str(SHAPES[1]): "nonsense"})
    assert forms.choose_forms(SHAPES[:2]) == {SHAPES[0]: "mxnet", SHAPES[1]: "native"}
    assert measured == [SHAPES[1]]
    assert forms.forms_in_use()[str(SHAPES[0])] == "mxnet"


def test_a_process_keeps_its_choice_where_the_cache_cannot_be_written_and_when_it_changes(
    measured, monkeypatch, tmp_path, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    first = forms.choose_forms(SHAPES[:2])
    assert "the times of convolutions are not kept: cannot write" in caplog.text
    monkeypatch.setattr(forms, "time_forms", lambda shape: {"native": 2.0, "mxnet": 1.0})
    assert forms.choose_forms(SHAPES[:2]) == first
    assert measured == SHAPES[:2]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forms._times_path().parent.mkdir(parents=True)
    forms._times_path().write_text(json.dumps({str(shape): {"native": 2.0, "mxnet": 1.0} for shape in SHAPES[:2]}))
    assert forms.choose_forms(SHAPES[:2]) == first


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"shape": {"native": 1}}', '{"shape": {"native": 1, "mxnet": -1}}']
)
def test_a_damaged_cache_is_measured_again(measured, content):
    path = forms._times_path()
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert forms.describe_forms().startswith("not timed")
    forms.choose_forms(SHAPES[:1])
    assert measured == SHAPES[:1]
    assert json.loads(path.read_text()) == {str(SHAPES[0]): TIMES}


def test_what_another_process_has_timed_meanwhile_counts(measured, monkeypatch):
    def time_forms(shape):
        forms._times_path().parent.mkdir(parents=True, exist_ok=True)
        forms._times_path().write_text(json.dumps({str(shape): {"native": 2.0, "mxnet": 1.0}}))
        return TIMES

    monkeypatch.setattr(forms, "time_forms", time_forms)
    assert forms.choose_forms(SHAPES[:1]) == {SHAPES[0]: "mxnet"}


def test_the_environment_chooses_one_form_for_all(measured, monkeypatch, capsys):
    for form in forms.FORMS:
        monkeypatch.setenv(forms.VARIABLE, form)
        assert set(forms.choose_forms(SHAPES).values()) == {form}
        assert forms.describe_forms() == f"{form} (VARGFACENET_CONVOLUTIONS)"
    monkeypatch.setenv(forms.VARIABLE, "fast")
    with pytest.raises(SettingError, match="VARGFACENET_CONVOLUTIONS=fast: expected measured, native or mxnet"):
        forms.choose_forms(SHAPES)
    assert main(["doctor"]) == 1
    assert "PROBLEM      VARGFACENET_CONVOLUTIONS=fast: expected measured" in capsys.readouterr().out
    assert not measured
    assert forms.forms_in_use() == {str(shape): "mxnet" for shape in SHAPES}  # for a run that resumes without it


@pytest.mark.slow
def test_no_chosen_form_is_slower_than_the_basic_one(monkeypatch, tmp_path):
    """On an idle machine. Times vary by a tenth, and a choice within that is left as it is."""
    monkeypatch.setenv(forms.VARIABLE, "measured")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for shape, form in forms.choose_forms(SHAPES).items():
        again = forms.time_forms(shape)
        assert again[form] <= 1.25 * again["mxnet"], (shape, form, again)
