"""The checkpoint contract: what loads, and what is refused with a reason."""

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import CheckpointError, DataError
from vargfacenet.formats.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.formats.files import atomic_path
from vargfacenet.symbols import get_symbol


@pytest.fixture(scope="module")
def network():
    symbol = get_symbol("vargfacenet", multiplier=0.25, units=(1, 1, 1), embedding_size=8)
    args, _, auxs = symbol.infer_shape(data=(1, 3, 112, 112))
    random = np.random.RandomState(0)
    named = [
        {n: mx.nd.array(random.uniform(size=s)) for n, s in zip(names, shapes) if n != "data"}
        for names, shapes in ((symbol.list_arguments(), args), (symbol.list_auxiliary_states(), auxs))
    ]
    return (symbol, *named)


def test_what_is_saved_loads_equal(network, tmp_path):
    symbol, args, auxs = network
    save_checkpoint(tmp_path / "model", 7, symbol, {**args, "fc7_weight": mx.nd.zeros((3, 8))}, auxs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-0007.params", "model-symbol.json"]
    loaded = load_checkpoint(tmp_path / "model", 7)
    assert loaded.symbol.tojson() == symbol.tojson()
    assert set(loaded.args) == set(args)
    for found, expected in ((loaded.args, args), (loaded.auxs, auxs)):
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name].asnumpy(), value.asnumpy())


def test_parameters_that_are_not_finite_are_not_saved(network, tmp_path):
    symbol, args, auxs = network
    with pytest.raises(CheckpointError, match="pre_fc1_bias holds NaN or infinity"):
        save_checkpoint(tmp_path / "model", 0, symbol, {**args, "pre_fc1_bias": mx.nd.array([1, np.inf] * 4)}, auxs)
    assert not list(tmp_path.iterdir())


def test_a_training_graph_with_its_classifier_loads_as_the_embedding(network, tmp_path):
    symbol, args, auxs = network
    whole = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(symbol, num_hidden=3, name="fc7"), name="softmax")
    extra = {"fc7_weight": mx.nd.zeros((3, 8)), "fc7_bias": mx.nd.zeros(3)}
    mx.model.save_checkpoint(str(tmp_path / "model"), 1, whole, {**args, **extra}, auxs)
    loaded = load_checkpoint(tmp_path / "model", 1)
    assert loaded.symbol.list_outputs() == ["fc1_output"]
    assert set(loaded.args) == set(args)


def test_half_precision_loads_as_float32(network, tmp_path):
    symbol, args, auxs = network
    half = {name: value.astype("float16") for name, value in args.items()}
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, symbol, half, auxs)
    assert {value.dtype for value in load_checkpoint(tmp_path / "model", 0).args.values()} == {np.float32}


def test_a_missing_parameter_is_named(network, tmp_path):
    symbol, args, auxs = network
    fewer = {name: value for name, value in args.items() if name != "embed_convx_weight"}
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, symbol, fewer, auxs)
    with pytest.raises(
        CheckpointError, match=r"model-0000.params lacks 1 parameter\(s\) of its graph: embed_convx_weight"
    ):
        load_checkpoint(tmp_path / "model", 0)


def test_a_misshapen_parameter_is_named(network, tmp_path):
    symbol, args, auxs = network
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, symbol, {**args, "pre_fc1_bias": mx.nd.zeros(9)}, auxs)
    with pytest.raises(CheckpointError, match=r"pre_fc1_bias has shape \(9,\), its graph expects \(8,\)"):
        load_checkpoint(tmp_path / "model", 0)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x12\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05"])
def test_damaged_parameters_are_refused(network, tmp_path, content):
    save_checkpoint(tmp_path / "model", 0, *network)
    (tmp_path / "model-0000.params").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model-0000.params is not a file of MXNet parameters"):
        load_checkpoint(tmp_path / "model", 0)


@pytest.mark.parametrize("content", ["", "{}", "hello", '{"nodes": 3}'])
def test_a_damaged_graph_is_refused(network, tmp_path, content):
    save_checkpoint(tmp_path / "model", 0, *network)
    (tmp_path / "model-symbol.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"model-symbol.json is not an MXNet graph"):
        load_checkpoint(tmp_path / "model", 0)


def test_a_graph_without_the_output_that_is_named_is_refused(network, tmp_path):
    save_checkpoint(tmp_path / "model", 0, *network)
    with pytest.raises(CheckpointError, match="has no output 'fc9_output': it ends in fc1_output; .* --output NAME"):
        load_checkpoint(tmp_path / "model", 0, output="fc9")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint file .*model-symbol.json"):
        load_checkpoint(tmp_path / "model", 0)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"), atomic_path(tmp_path / "file" / "below") as temporary:
        temporary.write_text("")


def test_real_checkpoint_of_2018_loads(real_faces):
    checkpoint = load_checkpoint(real_faces / "teacher" / "model", 0)
    assert checkpoint.symbol.infer_shape(data=(1, 3, 112, 112))[1] == [(1, 128)]
