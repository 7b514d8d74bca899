"""The forms of convolutions are the same in all workers of a run."""

import mxnet as mx
import pytest

from vargfacenet.operators import forms, forms_in_use, keep_forms, runnable
from vargfacenet.operators.forms import Shape
from vargfacenet.train.cluster import Cluster
from vargfacenet.train.convolution_forms import share_forms
from vargfacenet.train.runtime import Runtime

pytestmark = pytest.mark.usefixtures("native")

GRAPH = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True, name="first")
SHAPE = str(Shape(3, 112, 112, 4, 1, 3, 1))


class Two(Cluster):
    """One of two workers; worker 0 has sent `sent`."""

    def __init__(self, rank, sent=None):
        super().__init__(rank, 2)
        self.sent = sent

    def broadcast_object(self, value=None):
        self.sent = value if self.is_first else self.sent
        return self.sent


@pytest.fixture(autouse=True)
def native_is_quicker(monkeypatch, tmp_path):
    monkeypatch.setenv(forms.VARIABLE, "measured")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(forms, "time_forms", lambda shape: {"native": 1.0, "mxnet": 2.0})
    yield
    keep_forms({})


def built(rank, recorded, sent=None):
    """The forms in which a worker builds its graph, and what worker 0 has sent."""
    cluster = Two(rank, sent)
    share_forms(GRAPH, Runtime([mx.cpu()], cluster), recorded)
    runnable(GRAPH, for_training=True, backend="native")
    return forms_in_use(), cluster.sent


def test_all_workers_of_a_resumed_run_keep_what_worker_0_has_recorded():
    assert built(0, {SHAPE: "mxnet"}) == ({SHAPE: "mxnet"}, {SHAPE: "mxnet"})
    assert built(1, {}, {SHAPE: "mxnet"})[0] == {SHAPE: "mxnet"}


def test_all_workers_of_a_new_run_take_what_worker_0_has_timed(monkeypatch):
    assert built(0, {}) == ({SHAPE: "native"}, {SHAPE: "native"})
    monkeypatch.setattr(forms, "time_forms", lambda shape: pytest.fail("worker 1 times nothing"))
    assert built(1, {}, {SHAPE: "native"})[0] == {SHAPE: "native"}
