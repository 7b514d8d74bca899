"""MXNet computes with the same number of threads in whichever order packages are imported."""

import os
import subprocess
import sys

import pytest

from vargfacenet import compatibility
from vargfacenet.threads import prepare_threads, threads_in_use, usable_cores, wanted_threads

# MXNet cannot be imported on current NumPy without the hook, which is taken from its file here: importing it from the
# package would set the environment.
MXNET_FIRST = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("hook", {compatibility.__file__!r})
hook = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hook)
hook.install()
import mxnet as mx
mx.nd.ones(1).asnumpy()
import vargfacenet
"""
PACKAGE_FIRST = "import vargfacenet\nimport mxnet as mx\n"
COMPUTE = """
import hashlib, numpy as np
from vargfacenet.threads import threads_in_use
x = mx.nd.array(np.random.RandomState(0).normal(size=(8, 32, 28, 28)))
weight = mx.nd.array(np.random.RandomState(1).normal(size=(32, 32, 3, 3)))
for array in (x, weight):
    array.attach_grad()
with mx.autograd.record():
    y = mx.nd.Convolution(x, weight, num_filter=32, kernel=(3, 3), no_bias=True)
    loss = (y * y).sum() + y.softmax(axis=1).mean()
loss.backward()
numbers = b"".join(array.asnumpy().tobytes() for array in (loss, x.grad, weight.grad))
print(threads_in_use(0), threads_in_use(1), hashlib.sha256(numbers).hexdigest())
"""


def computed(code, **variables):
    """Threads of two devices, and a fingerprint of numbers, as a process of its own has them."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code + COMPUTE], env={**environment, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second, fingerprint = done.stdout.split()
    return int(first), int(second), fingerprint


def test_mxnet_has_all_cores_and_gives_the_same_numbers_whoever_is_imported_first():
    """Also where the variable holds what MXNet would end the process for."""
    first = computed(MXNET_FIRST)
    assert first == computed(PACKAGE_FIRST, OMP_NUM_THREADS="many")
    assert first[:2] == (usable_cores(), usable_cores())


def test_the_users_own_number_is_kept_whoever_is_imported_first():
    first = computed(MXNET_FIRST, OMP_NUM_THREADS="1")
    assert first == computed(PACKAGE_FIRST, OMP_NUM_THREADS="1")
    assert first[:2] == (1, 1)


def test_preparing_again_changes_nothing():
    before = threads_in_use()
    prepare_threads()
    assert threads_in_use() == before == wanted_threads()


@pytest.mark.parametrize(
    ("given", "wanted"), [("3", 3), ("4,2", 4), ("\u00b2", None), ("", None), ("many", None), ("0", None)]
)
def test_the_wanted_number_is_the_variables_or_one_for_each_core(monkeypatch, given, wanted):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert wanted_threads() == (wanted or usable_cores())


@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), ("3", 3), ("4,2", 4), ("", None), ("many", None)], ids=repr
)
def test_mxnet_finds_one_whole_number_in_the_variable_when_it_is_imported(given, expected):
    code = "import os, sys, vargfacenet; print('mxnet' in sys.modules, os.environ['OMP_NUM_THREADS'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment.update({} if given is None else {"OMP_NUM_THREADS": given})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(expected or usable_cores())]
