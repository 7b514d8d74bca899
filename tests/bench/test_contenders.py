"""Contenders do the same work, and take what the contests give them."""

import ast
import json
import pathlib
import runpy
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

import vargfacenet
from vargfacenet import bench
from vargfacenet.bench.rounds import CONTENDERS
from vargfacenet.operators import runnable
from vargfacenet.symbols import get_symbol
from vargfacenet.torch import has_torch

SMALL = {"multiplier": 0.25, "embedding_size": 16}
NETWORKS = {
    "vargfacenet": {**SMALL, "units": (1, 1, 1)},
    "resnet18": SMALL,
    "mobilefacenet": {"embedding_size": 16},
}
BACKENDS = ["native", "basic", "stock"]


def all_contests():
    network = ("vargfacenet", {})
    yield bench.training(*network, batch_size=2, updates=1, backends=BACKENDS, pytorch="python")
    yield bench.waiting(*network, batch_size=2, updates=1, data="set")
    yield bench.profile(*network, batch_size=2, updates=1, backends=BACKENDS)
    yield bench.embedding(*network, batch_size=2, batches=1, backends=BACKENDS)
    yield bench.feeding("set", "plain.rec", batch_size=2, batches=1)
    yield bench.verifying(pairs=20, thresholds=4)
    yield bench.starting()


@pytest.mark.parametrize("contest", all_contests(), ids=lambda contest: contest.title)
def test_contenders_take_what_a_contest_gives(contest):
    check_options(contest)


def test_files_of_onnx_run_as_mxnet_does(tmp_path):
    network = ("vargfacenet", NETWORKS["vargfacenet"])
    contest = bench.deployed(*network, folder=tmp_path, batches=1, openvino="python")
    check_options(contest)
    rewritten, plain, *_ = contest.contenders
    embed = runpy.run_path(str(CONTENDERS / "embed_onnx.py"))["prepare"]
    assert embed(**rewritten.options)()["norm"] == pytest.approx(embed(**plain.options)()["norm"], rel=1e-4)
    int8 = next(one.options for one in contest.contenders if one.name.endswith("int8"))
    on_bytes = embed(**{**int8, "runtime": "onnxruntime"})()["norm"]
    assert on_bytes == pytest.approx(embed(**plain.options)()["norm"], rel=0.2)
    assert set(contest.baselines) < {one.name for one in contest.contenders}


def test_padding_is_computed_and_not_counted():
    prepare = runpy.run_path(str(CONTENDERS / "embed.py"))["prepare"]
    turn = prepare(network="vargfacenet", network_options=NETWORKS["vargfacenet"], batch_size=2, batches=3, padding=1)
    assert turn()["items"] == 3


def test_the_product_alone_goes_through_the_same_pairs(tmp_path):
    contest = bench.pairing(rows=300, others=200, folder=tmp_path, size=8, identities=20, far=1e-3)
    check_options(contest)
    prepare = runpy.run_path(str(CONTENDERS / "all_pairs.py"))["prepare"]
    ours, product = (prepare(**contender.options)() for contender in contest.contenders)
    assert ours["items"] == product["items"] == 300 * 200
    assert 0 < ours["accepted_different"] <= 57 < 300 * 200 * 1e-3


def test_pooling_template_by_template_gives_the_same_rates():
    contest = bench.pooling(images=3000, templates=300, gallery=60, pairs=15000, embedding_size=128)
    check_options(contest)
    prepare = runpy.run_path(str(CONTENDERS / "templates.py"))["prepare"]
    ours, loop = (prepare(**contender.options)() for contender in contest.contenders)
    assert 0 < ours["tar"] < 1
    assert 0 < ours["tpir"] < 1
    assert ours == pytest.approx(loop)


def check_options(contest):
    for contender in contest.contenders:
        json.dumps(contender.options)
        tree = ast.parse((CONTENDERS / contender.file).read_text())
        (prepare,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "prepare"]
        known = {argument.arg for argument in prepare.args.kwonlyargs}
        needed = {
            argument.arg
            for argument, default in zip(prepare.args.kwonlyargs, prepare.args.kw_defaults)
            if default is None
        }
        assert needed <= set(contender.options)
        assert set(contender.options) <= known or prepare.args.kwarg is not None


@pytest.mark.parametrize(("pairs", "thresholds"), [(60, 40), (123, 400)])
def test_the_loop_over_thresholds_finds_what_the_protocol_finds(pairs, thresholds):
    protocol = runpy.run_path(str(CONTENDERS / "protocol.py"))
    ours, loop = (protocol["prepare"](pairs=pairs, thresholds=thresholds, loop=loop) for loop in (False, True))
    assert ours()["accuracy"] == pytest.approx(loop()["accuracy"], abs=1e-12)


def test_all_ways_to_embed_give_the_same(native):
    work = {"network": "vargfacenet", "network_options": NETWORKS["vargfacenet"], "batch_size": 2, "batches": 1}
    embed = runpy.run_path(str(CONTENDERS / "embed.py"))["prepare"]
    norms = []
    for module in (False, True):
        mx.random.seed(0)
        norms.append(embed(**work, module=module)()["norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_pytorch_trains_the_same_network(network, tmp_path):
    python = sys.executable if has_torch() else bench.rival_python("pytorch", install=False)
    if python is None:
        pytest.skip(
            "PyTorch is missing: make install TORCH=1, or 'vargfacenet bench train --rivals' installs it elsewhere"
        )
    # Dropout draws numbers, in each library its own.
    symbol = mx.sym.load_json(get_symbol(network, **NETWORKS[network]).tojson().replace('"p": "0.4"', '"p": "0"'))
    inputs = np.random.RandomState(0).uniform(0, 255, (4, 3, 112, 112)).astype(np.float32)
    module = mx.mod.Module(runnable(symbol, for_training=True, backend="basic"), label_names=None)
    module.bind([("data", inputs.shape)], for_training=True)
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
    module.forward(mx.io.DataBatch([mx.nd.array(inputs)]), is_train=True)
    arrays = {name: value.asnumpy() for name, value in {**module.get_params()[0], **module.get_params()[1]}.items()}
    np.savez(tmp_path / "arrays.npz", data=inputs, **arrays)
    (tmp_path / "graph.json").write_text(symbol.tojson())
    script = pathlib.Path(__file__).with_name("run_pytorch.py")
    package = pathlib.Path(vargfacenet.__file__).parent.parent
    command = [str(python), "-I", str(script), str(CONTENDERS / "train_pytorch.py"), str(tmp_path), str(package)]
    subprocess.run(command, check=True)
    expected, found = module.get_outputs()[0].asnumpy(), np.load(tmp_path / "embeddings.npy")
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
