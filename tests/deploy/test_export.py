"""ONNX files: equal to stock MXNet for every network and form, readable by old runtimes, absent where not equal."""

import functools
import json

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers.command_line import refused
from tests.helpers.networks import SMALL, by_stock_calls, save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.deploy import export as export_module
from vargfacenet.deploy.export import export_onnx
from vargfacenet.deploy.graph import ImageInput
from vargfacenet.deploy.probe import probe_images, relative_error
from vargfacenet.deploy.runtime import OnnxEmbedder
from vargfacenet.deploy.targets import TARGETS, Target, rewrite_for
from vargfacenet.deploy.translate import translate
from vargfacenet.errors import DataError, ExportError, SettingError, SetupError
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.files import fingerprint
from vargfacenet.symbols import list_networks

NETWORKS = [
    ("vargfacenet", {"multiplier": 0.5, "units": (2, 2, 2), "embedding_size": 32}),
    ("vargfacenet", {"activation": "tanh", "head_pooling": True, **SMALL}),
    ("vargfacenet_insightface", SMALL),
    ("resnet18", {"multiplier": 0.5, "use_se": True, "embedding_size": 32}),
    ("resnet18", {"multiplier": 0.25, "embedding_size": 16}),
    ("mobilefacenet", {}),
]


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).randint(0, 256, (3, 3, 112, 112)).astype(np.float32)


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network[0])
def checkpoint(request, tmp_path_factory):
    """Random weights, scales of BN that some graphs fix at 1 and running statistics of no batch."""
    network, options = request.param
    return save_random_checkpoint(tmp_path_factory.mktemp("network") / "model", network, **options), network, options


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The checkpoint as a file: a function of the target that returns its path and what `export_onnx` did."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(target):
        return folder / f"{target}.onnx", export_onnx(checkpoint[0], 0, folder / f"{target}.onnx", target=target)

    return export


@pytest.fixture(scope="module")
def expected(checkpoint, images):
    """Embeddings of the images by stock MXNet."""
    return by_stock_calls(checkpoint[0], 0, images)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return save_random_checkpoint(tmp_path_factory.mktemp("small") / "model", "vargfacenet", **SMALL)


def run(path, images):
    """Embeddings by onnxruntime, without this package."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"data": images})[0]


@pytest.mark.parametrize("target", ["plain", "onnxruntime"])
def test_every_network_in_every_form_embeds_as_stock_mxnet(checkpoint, exported, expected, target, images):
    path, done = exported(target)
    assert done.network == checkpoint[1:]
    assert relative_error(run(path, images), expected) < 1e-4
    assert relative_error(run(path, images[1:2]), expected[1:2]) < 1e-4
    assert done.bytes == path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("target", ["plain", "onnxruntime"])
@pytest.mark.parametrize("network", list_networks())
def test_every_network_at_its_published_size_is_proved(network, target, tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", network)
    done = export_onnx(prefix, 0, tmp_path / "out.onnx", target=target)
    assert done.network == (network, {})
    assert done.error < 1e-4


@pytest.mark.parametrize(
    "image", [ImageInput("NHWC"), ImageInput(dtype="uint8"), ImageInput(batch=3), ImageInput("NHWC", "uint8", 1)]
)
@pytest.mark.parametrize("target", ["plain", "onnxruntime"])
def test_other_forms_of_the_input_embed_as_stock_mxnet(small, image, target, tmp_path, images):
    path = tmp_path / "out.onnx"
    export_onnx(small, 0, path, target=Target(target, image))
    expected = by_stock_calls(small, 0, images[:3])
    given = images[:3].transpose(0, 2, 3, 1) if image.layout == "NHWC" else images[:3]
    rows = [run(path, part.astype(image.dtype)) for part in np.split(given, 3 // (image.batch or 3))]
    assert relative_error(np.concatenate(rows), expected) < 1e-4
    found = OnnxEmbedder(path).embed_batch(images[:2])  # this package's own reader, with fewer images than a batch
    assert relative_error(found, expected[:2]) < 1e-4
    told = onnx.load(path).metadata_props
    sides = "112, 112, 3" if image.layout == "NHWC" else "3, 112, 112"
    assert {one.key: one.value for one in told}[
        "input"
    ] == f"RGB, {image.dtype} ({image.batch or 'N'}, {sides}), 0..255"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layout", "chwn"], "unknown layout 'CHWN'"),
        (["--input-type", "int8"], "unknown type of the input 'int8'"),
        (["--batch", "0"], "batch=0: expected"),
        (["--target", "insightface", "--layout", "nhwc"], "float32 NCHW, any number at a time, and in no other form"),
    ],
)
def test_forms_of_the_input_that_cannot_be_are_refused(capsys, small, options, message, tmp_path):
    assert message in refused(capsys, "export", small, tmp_path / "out.onnx", *options)
    assert not (tmp_path / "out.onnx").exists()


def test_int8_takes_bytes(small, tmp_path, images):
    path = tmp_path / "out.onnx"
    target = Target("plain", ImageInput("NHWC", "uint8"))
    done = export_onnx(small, 0, path, target=target, precision="int8", calibration=probe_images(24))
    assert done.cosine > 0.98
    assert run(path, images[:2].transpose(0, 2, 3, 1).astype(np.uint8)).shape == (2, SMALL["embedding_size"])


def test_openvino_embeds_as_stock_mxnet(exported, expected, images):
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'vargfacenet[openvino]'")
    found = OnnxEmbedder(exported("openvino")[0], runtime="openvino").embed_batch(images)
    assert relative_error(found, expected) < 1e-4


def test_a_file_is_one_that_old_runtimes_read(checkpoint, exported):
    model = onnx.load(str(exported("plain")[0]))
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(one.domain, one.version) for one in model.opset_import]) == (6, [("", 11)])
    assert [value.name for value in model.graph.input] == ["data"]
    assert not {value.name for value in model.graph.input} & {value.name for value in model.graph.initializer}
    sizes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.output]
    assert sizes == [["batch", load_checkpoint(checkpoint[0], 0).symbol.infer_shape(data=(1, 3, 112, 112))[1][0][1]]]
    slopes = {node.input[1] for node in model.graph.node if node.op_type == "PRelu"}
    constants = {value.name: value.dims for value in model.graph.initializer}
    assert all(len(constants[name]) == 3 and list(constants[name][1:]) == [1, 1] for name in slopes)


def test_bn_is_folded_away_where_a_convolution_is_before_it(tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", **SMALL)
    assert not any(node.op == "BatchNormalization" for node in translate(load_checkpoint(prefix, 0)).nodes)


def test_a_file_says_what_it_is(small, tmp_path, pairs_file):
    export_onnx(small, 0, tmp_path / "out.onnx", target="onnxruntime")
    facts = OnnxEmbedder(tmp_path / "out.onnx").metadata
    assert facts["network"] == "vargfacenet"
    assert json.loads(facts["network_options"]) == {**SMALL, "units": [1, 2, 1]}
    assert facts["checkpoint"] == fingerprint([f"{small}-symbol.json", f"{small}-0000.params"])
    assert facts["target"] == "onnxruntime"
    assert facts["input"] == "RGB, float32 (N, 3, 112, 112), 0..255"
    assert "threshold" not in facts


def test_export_scores_both_and_keeps_the_threshold(capsys, small, tmp_path, pairs_file, monkeypatch):
    monkeypatch.setattr(export_module, "FAR", 0.25)
    assert main(["export", str(small), str(tmp_path / "out.onnx"), "--verify", str(pairs_file)]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith("stripes")]
    assert [row[1] for row in rows] == ["mxnet", "onnxruntime"]
    assert rows[0][2:] == rows[1][2:]
    facts = OnnxEmbedder(tmp_path / "out.onnx").metadata
    assert json.loads(facts["accuracy"]) == {"stripes": pytest.approx(float(rows[0][2]), abs=1e-5)}
    assert -1 < float(facts["threshold"]) < 1
    assert (facts["threshold_set"], facts["threshold_far"]) == ("stripes", "0.25")


def test_a_set_too_small_for_the_rate_gives_a_threshold_at_a_larger_one(capsys, small, tmp_path, pairs_file):
    assert main(["export", str(small), str(tmp_path / "out.onnx"), "--verify", str(pairs_file)]) == 0
    assert "at a false accept rate of 0.1\n" in capsys.readouterr().out  # of 20 pairs of different people
    assert OnnxEmbedder(tmp_path / "out.onnx").metadata["threshold_far"] == "0.1"


@pytest.mark.parametrize(
    "name", ["pre_fc1_weight", "embed_convx_bn_gamma", "vargface_head_conv1_act_gamma", "fc1_moving_var"]
)
def test_a_parameter_broken_on_the_way_fails_the_proof_and_leaves_no_file(small, tmp_path, monkeypatch, name):
    def broken(checkpoint):
        part = checkpoint.args if name in checkpoint.args else checkpoint.auxs
        values = part[name].asnumpy()
        values.flat[0] += 0.5
        return translate(
            checkpoint._replace(**{"args" if part is checkpoint.args else "auxs": {**part, name: mx.nd.array(values)}})
        )

    monkeypatch.setattr(export_module, "translate", broken)
    with pytest.raises(
        ExportError, match=r"differ from MXNet's: relative error .*e-0\d, allowed 1e-04; no file was left"
    ):
        export_onnx(small, 0, tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


def test_a_failed_proof_leaves_the_file_of_before(small, tmp_path, monkeypatch):
    (tmp_path / "out.onnx").write_text("before")
    monkeypatch.setattr(export_module, "TOLERANCE", 1e-12)
    with pytest.raises(ExportError):
        export_onnx(small, 0, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_text() == "before"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda x: mx.sym.LRN(x, nsize=3), r"is a LRN, which is not supported; supported are Activation, BatchNorm"),
        (
            lambda x: mx.sym.Pooling(x, kernel=(2, 2), pool_type="lp", p_value=2),
            "attribute p_value=2, which is not supported",
        ),
        (lambda x: mx.sym.Pooling(x, kernel=(2, 2), pool_type="sum"), "has the type sum with convention valid"),
        (lambda x: mx.sym.LeakyReLU(x, act_type="selu"), "has the type selu; supported are prelu, gelu, leaky and elu"),
        (lambda x: mx.sym.split(x, num_outputs=3)[1], "is a SliceChannel, which is not supported"),
    ],
)
def test_what_has_no_form_is_named(tmp_path, layer, message):
    symbol = mx.sym.FullyConnected(layer(mx.sym.Variable("data") * 0.01), num_hidden=4, name="fc1")
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 112, 112))[0]))
    args = {name: mx.nd.zeros(shape) for name, shape in shapes.items() if name != "data"}
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, symbol, args, {})
    with pytest.raises(ExportError, match=message):
        export_onnx(tmp_path / "model", 0, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_package_is_named_with_its_command(monkeypatch, small, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(SetupError, match=r"'onnxruntime' is missing .* pip install 'vargfacenet\[deploy\]'"):
        export_onnx(small, 0, tmp_path / "out.onnx")


def test_what_is_no_network_of_faces_is_refused(tmp_path, small):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(
        DataError, match=r"text.onnx is not an ONNX file|onnxruntime does not accept .*text.onnx|has 0 inputs"
    ):
        OnnxEmbedder(tmp_path / "text.onnx")
    with pytest.raises(DataError, match="cannot read .*none.onnx"):
        OnnxEmbedder(tmp_path / "none.onnx")
    with pytest.raises(SettingError, match="unknown runtime 'tensorflow'"):
        OnnxEmbedder(b"", runtime="tensorflow")
    with pytest.raises(SettingError, match="precision 'bf16': onnxruntime computes in float32"):
        OnnxEmbedder(b"", precision="bf16")


def test_mistakes_are_one_line(capsys, small, tmp_path):
    assert "did you mean 'onnxruntime'" in refused(
        capsys, "export", small, tmp_path / "x.onnx", "--target", "onnxruntim"
    )
    assert "no checkpoint file" in refused(capsys, "export", tmp_path / "no", tmp_path / "x.onnx")


def test_the_checkpoint_of_2018_leaves_mxnet(real_faces, tmp_path):
    done = export_onnx(real_faces / "teacher" / "model", 0, tmp_path / "out.onnx")
    assert done.network == ("mobilefacenet", {})
    assert done.error < 1e-4


def test_targets_of_other_tools_are_one_of_two_forms(small):
    graph = translate(load_checkpoint(small, 0))
    forms = {
        target: rewrite_for(graph, target).to_onnx(opset=11, ir_version=6).SerializeToString() for target in TARGETS
    }
    assert forms["openvino"] == forms["plain"]
    assert forms["insightface"] == forms["onnxruntime"] != forms["plain"]
    with pytest.raises(SettingError, match="unknown target 'tensorrt'"):
        rewrite_for(graph, "tensorrt")
