"""MXNet can be imported with the installed NumPy, and NumPy looks to everybody else as it did before."""

import importlib
import struct
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from vargfacenet import compatibility
from vargfacenet.compatibility import REMOVED_NAMES, lent_names

IN_A_FRESH_PROCESS = """
import sys
import numpy as np
before = dict(vars(np))
missing = [name for name in {names!r} if not hasattr(np, name)]
import {first}
assert "sklearn" not in sys.modules
assert sys.modules["mxnet"].model.BASE_ESTIMATOR is object
import {second}
after = dict(vars(np))
grown = {{name for name in set(after) - set(before) if type(after[name]) is not type(sys)}}
assert not grown, grown
assert all(after[name] is value for name, value in before.items())
assert missing == [name for name in {names!r} if not hasattr(np, name)]
assert mxnet.__spec__.loader.__class__.__module__ != "vargfacenet.compatibility"
assert float(mxnet.nd.ones(3).sum().asscalar()) == 3
print(len(missing))
"""


IN_ANOTHER_PROCESS = """
import concurrent.futures, multiprocessing
from vargfacenet.symbols import list_networks

context = multiprocessing.get_context("spawn")
with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
    print(pool.submit(list_networks).result())
"""


def run_afresh(first, second, then=""):
    """Return what a process prints that imports what is named, looks at NumPy, and does something more."""
    looks = IN_A_FRESH_PROCESS.format(names=list(REMOVED_NAMES), first=first, second=second)
    code = "import warnings\nwarnings.simplefilter('ignore')\n" + looks + then
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_is_hidden_for_a_time_and_found_again():
    import sklearn

    with compatibility.without("sklearn"):
        with pytest.raises(ModuleNotFoundError, match="hidden"):
            importlib.import_module("sklearn")
        assert importlib.import_module("scipy")
    assert importlib.import_module("sklearn") is sklearn


def test_numpy_looks_as_before_once_mxnet_and_gluoncv_are_imported():
    run_afresh("vargfacenet, mxnet", "gluoncv")


def test_numpy_looks_as_before_behind_a_part_of_the_package_and_worker_processes_can_import_mxnet():
    """Started afresh, a worker process gets the hook by importing the function that it is to run."""
    assert "'vargfacenet'" in run_afresh("vargfacenet.symbols", "mxnet", IN_ANOTHER_PROCESS)


def test_lent_names_are_gone_even_where_the_import_fails(monkeypatch):
    monkeypatch.setitem(REMOVED_NAMES, "a_name_that_numpy_never_had", REMOVED_NAMES["PINF"])
    with pytest.raises(ImportError), lent_names():
        assert np.a_name_that_numpy_never_had == np.inf
        raise ImportError("broken")
    assert not hasattr(np, "a_name_that_numpy_never_had")


def test_every_lent_name_says_who_needs_it_and_can_be_made():
    for name, removed in REMOVED_NAMES.items():
        assert removed.reason.startswith("mxnet."), name
        assert removed.removed_in[0].isdigit(), name
        removed.make(np)


@pytest.mark.parametrize("label", [3.0, 7, np.array([1.0, 2.0, 3.0], np.float32), [5.0]])
def test_records_packed_and_unpacked_by_mxnet_are_the_same(label):
    packed = mx.recordio.pack(mx.recordio.IRHeader(0, label, 9, 1), b"content")
    header, content = mx.recordio.unpack(packed)
    assert content == b"content"
    assert header.id == 9
    assert np.array_equal(header.label, label)
    assert compatibility._pack((0, label, 9, 1), b"content") == packed


def test_an_image_packed_by_mxnet_is_the_one_that_is_unpacked():
    image = np.random.RandomState(0).randint(0, 255, (20, 30, 3), np.uint8)
    packed = mx.recordio.pack_img(mx.recordio.IRHeader(0, 2.0, 1, 0), image, quality=1, img_fmt=".png")
    assert struct.unpack("<IfQQ", packed[:24]) == (0, 2.0, 1, 0)
    assert np.array_equal(mx.recordio.unpack_img(packed)[1], image)


def test_mxnets_own_numpy_can_be_indexed_by_a_mask_and_padded():
    mx.npx.set_np()
    try:
        array = mx.np.array([[1.0, 2.0], [3.0, 4.0]])
        assert array[array > 2].asnumpy().tolist() == [3.0, 4.0]
        assert mx.np.pad(array, ((1, 0), (0, 0))).shape == (3, 2)
        assert mx.np.array([True, False], dtype=bool).dtype == bool
    finally:
        mx.npx.reset_np()


def test_what_mxnets_functions_look_up_when_they_run_is_there():
    handler = mx.gluon.contrib.estimator.EarlyStoppingHandler(mx.metric.Loss(), mode="min")
    handler.train_begin(None)
    assert mx.test_utils.default_rtols()
    assert mx.test_utils.np.int is int
