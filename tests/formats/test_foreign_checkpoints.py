"""Checkpoints as Gluon and others write them: shared names, other outputs, bare names, one slope for all channels."""

import json
import logging

import mxnet as mx
import numpy as np
import onnxruntime
import pytest

from tests.helpers.networks import save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.deploy.export import export_onnx
from vargfacenet.errors import CheckpointError
from vargfacenet.eval import Embedder
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.operators import missing_for_native

IMAGES = np.random.RandomState(0).randint(0, 256, (2, 3, 112, 112)).astype(np.float32)


class Twice(mx.gluon.HybridBlock):
    """A network that calls one activation twice and has PReLU with one slope for all channels."""

    def __init__(self):
        super().__init__(prefix="net_")
        with self.name_scope():
            self.first, self.second = (mx.gluon.nn.Conv2D(8, 3, 4, prefix=f"conv{n}_") for n in (1, 2))
            self.prelu, self.relu = mx.gluon.nn.PReLU(prefix="slope_"), mx.gluon.nn.Activation("relu", prefix="relu_")
            self.pool, self.dense = mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dense(16, prefix="embedding_")

    def hybrid_forward(self, F, x):
        x = self.relu(self.first((x - 127.5) / 128))
        return self.dense(self.pool(self.relu(self.prelu(self.second(x)) + 0.1)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Prefix of what Gluon exports of a network, and its embeddings by Gluon."""
    mx.random.seed(0)
    net = Twice()
    net.initialize(mx.init.Xavier())
    net.hybridize()
    net(mx.nd.zeros((1, 3, 112, 112)))
    prefix = tmp_path_factory.mktemp("gluon") / "model"
    net.export(str(prefix))
    return prefix, net(mx.nd.array(IMAGES)).asnumpy()


def test_the_export_has_shared_names_and_another_output(exported):
    graph = json.loads(exported[0].with_name("model-symbol.json").read_text())
    names = [node["name"] for node in graph["nodes"]]
    assert len(set(names)) < len(names)
    assert "fc1" not in names
    slope = mx.nd.load(f"{exported[0]}-0000.params")["arg:net_slope_alpha"]
    assert slope.shape == (1,)


@pytest.mark.parametrize("backend", ["native", "basic"])
def test_a_gluon_network_embeds_as_in_gluon(exported, backend, monkeypatch, caplog):
    if backend == "native" and missing_for_native():
        pytest.skip("the native operators cannot be compiled here")
    monkeypatch.setenv("VARGFACENET_OPERATORS", backend)
    prefix, expected = exported
    with caplog.at_level(logging.INFO):
        checkpoint = load_checkpoint(prefix, 0)
    assert checkpoint.symbol.list_outputs() == ["fc1_output"]
    assert "has no fc1_output: its output net_embedding_fwd is taken as the embedding" in caplog.text
    np.testing.assert_allclose(Embedder(*checkpoint, batch_size=2).embed_batch(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_a_gluon_network_is_exported(exported, tmp_path):
    export_onnx(exported[0], 0, tmp_path / "out.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["fc1"], {"data": IMAGES})[0], exported[1], rtol=1e-4, atol=1e-5)


def test_the_output_can_be_named(exported, tmp_path, capsys):
    prefix = exported[0]
    assert main(["convert", str(prefix), str(tmp_path / "out"), "--output", "net_embedding_fwd"]) == 0
    stock, *_ = mx.model.load_checkpoint(str(tmp_path / "out"), 0)
    assert stock.list_outputs() == ["fc1_output"]
    assert main(["convert", str(prefix), str(tmp_path / "no"), "--output", "none"]) == 2
    assert "has no output 'none_output': it ends in net_embedding_fwd_output" in capsys.readouterr().err


def test_several_outputs_of_two_dimensions_are_not_guessed_between(tmp_path):
    flat = mx.sym.Flatten(mx.sym.var("data"))
    heads = [mx.sym.FullyConnected(flat, num_hidden=4, name=name) for name in ("one", "two")]
    mx.sym.Group(heads).save(str(tmp_path / "model-symbol.json"))
    mx.nd.save(str(tmp_path / "model-0000.params"), {"arg:x": mx.nd.zeros((1,))})
    with pytest.raises(CheckpointError, match="has no output 'fc1_output': it ends in one_output, two_output"):
        load_checkpoint(tmp_path / "model", 0)


def test_parameters_without_kinds_in_their_names_are_read(tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "mobilefacenet")
    expected = load_checkpoint(prefix, 0)
    file = f"{prefix}-0000.params"
    mx.nd.save(file, {name[4:]: value for name, value in mx.nd.load(file).items()})
    found = load_checkpoint(prefix, 0)
    for one, other in zip(found[1:], expected[1:]):
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).asnumpy().all() for name in one)


def test_a_weight_of_more_than_2_to_the_24_numbers_is_read(tmp_path):
    embedding = mx.sym.FullyConnected(mx.sym.Flatten(mx.sym.var("data")), num_hidden=512, no_bias=True, name="fc1")
    embedding.save(str(tmp_path / "model-symbol.json"))
    mx.nd.save(str(tmp_path / "model-0000.params"), {"arg:fc1_weight": mx.nd.ones((512, 3 * 112 * 112))})
    assert load_checkpoint(tmp_path / "model", 0).args["fc1_weight"].size > 1 << 24


def test_running_statistics_saved_among_the_parameters_are_found(tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "mobilefacenet")
    expected = load_checkpoint(prefix, 0)
    saved = mx.nd.load(f"{prefix}-0000.params")
    mx.nd.save(f"{prefix}-0000.params", {f"arg:{name.split(':')[1]}": value for name, value in saved.items()})
    found = load_checkpoint(prefix, 0)
    assert len(found.auxs) > 0
    for name, value in expected.auxs.items():
        np.testing.assert_array_equal(found.auxs[name].asnumpy(), value.asnumpy())
