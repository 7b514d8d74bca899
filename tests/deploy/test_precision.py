"""Fewer bytes: what the arithmetic must give, and what the file then embeds."""

import json

import numpy as np
import onnx
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import image
from tests.helpers.networks import SMALL, by_stock_calls, save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.deploy import quantise as quantise_module
from vargfacenet.deploy.export import export_onnx
from vargfacenet.deploy.graph import ON_TOKENS, Graph, Node
from vargfacenet.deploy.precision import to_bfloat16
from vargfacenet.deploy.probe import cosines, relative_error
from vargfacenet.deploy.quantise import _weight_bytes, quantise, quantise_measured, ranges
from vargfacenet.deploy.runtime import OnnxEmbedder
from vargfacenet.deploy.samples import sample_images
from vargfacenet.deploy.translate import translate
from vargfacenet.errors import DataError, ExportError, SettingError
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.images import encode_jpeg


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return save_random_checkpoint(tmp_path_factory.mktemp("small") / "model", "vargfacenet", **SMALL)


@pytest.fixture(scope="module")
def faces():
    return np.stack([image(n % 4, n) for n in range(24)]).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, small, faces):
    """The folder of the network as an ONNX file in each precision, such as ``int8.onnx``."""
    folder = tmp_path_factory.mktemp("exported")
    for precision in ("float32", "fp16", "bf16", "int8"):
        export_onnx(small, 0, folder / f"{precision}.onnx", precision=precision, calibration=faces)
    return folder


@pytest.fixture(scope="module")
def unseen(small):
    """Images that nothing was calibrated on, and their embeddings."""
    images = np.stack([image(n % 4, 100 + n) for n in range(4)]).transpose(0, 3, 1, 2).astype(np.float32)
    return images, by_stock_calls(small, 0, images)


def test_rows_of_zeros_are_alike_and_unlike_all_others():
    one, other = np.array([[3.0, 4], [0, 0], [1, 0]]), np.array([[4.0, 3], [0, 0], [0, 0]])
    np.testing.assert_allclose(cosines(one, other), [0.96, 1, 0])


@pytest.mark.parametrize("seed", [0, 1])
def test_bfloat16_is_the_nearest_of_its_neighbours(seed):
    values = np.random.RandomState(seed).normal(size=1000).astype(np.float32)
    found = (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    # Eight binary digits, the first of which is not written: steps of 2 ** -7 below the next power of two.
    step = 2.0 ** (np.floor(np.log2(np.abs(values))) - 7)
    assert (np.abs(found - values) <= step / 2).all()
    np.testing.assert_array_equal(np.abs(found / step) % 1, 0)


def test_bfloat16_rounds_halves_to_even():
    values = np.float32([1 + 2**-8, 1 + 3 * 2**-8])
    np.testing.assert_array_equal((to_bfloat16(values).astype(np.uint32) << 16).view(np.float32), [1, 1 + 2**-6])


def test_weights_are_bytes_with_a_scale_for_each_channel():
    weight = np.float32([[1.0, -2.0], [0.0, 0.0], [0.001, 0.0005]])
    inside, scale = _weight_bytes(weight, 0)
    assert inside.tolist() == [[64, -127], [0, 0], [127, 64]]
    np.testing.assert_allclose(scale, [2 / 127, 1, 0.001 / 127], rtol=1e-6)


def test_a_layer_on_bytes_gives_what_whole_numbers_give():
    """A 1x1 convolution of images 0..255 with a scale of 1 and zero point 0 is exact in its input."""
    random = np.random.RandomState(0)
    weight, bias = random.normal(size=(4, 3, 1, 1)).astype(np.float32), np.float32([1, -1, 2, 0])
    nodes = [
        Node("Conv", "conv", ["data", "w", "b"], {"kernel_shape": [1, 1]}),
        Node("GlobalAveragePool", "mean", ["conv"]),
        Node("Flatten", "rows", ["mean"], {"axis": 1}),
    ]
    graph = Graph(nodes, {"w": weight, "b": bias}, "rows", 4)
    images = random.randint(0, 256, (2, 3, 112, 112)).astype(np.float32)
    found = quantise_module._embed(quantise(graph, ["conv"], {"data": (0.0, 255.0)}), images)
    scale = np.abs(weight).max(axis=(1, 2, 3)) / 127
    whole = np.rint(weight[:, :, 0, 0] / scale[:, None])
    expected = images.mean(axis=(2, 3)) @ (whole * scale[:, None]).T + bias
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_ranges_leave_the_tails_out(small, faces):
    graph = translate(load_checkpoint(small, 0))
    layers = [node.name for node in graph.nodes if node.op == "Conv"][:1]
    (name, whole), *_ = ranges(graph, layers, faces, 0.0).items()
    low, high = ranges(graph, layers, faces, 0.1)[name]
    values = (faces - 127.5) * 0.0078125
    batches = [values[start : start + 8] for start in range(0, 24, 8)]
    np.testing.assert_allclose(whole, [np.mean([f(b) for b in batches]) for f in (np.min, np.max)], rtol=1e-5)
    np.testing.assert_allclose([low, high], np.mean([np.quantile(b, [0.1, 0.9]) for b in batches], axis=0), atol=0.02)


def test_layers_that_suffer_stay_in_float_and_only_as_long_as_they_are_light(small, faces, monkeypatch):
    graph = translate(load_checkpoint(small, 0))
    monkeypatch.setattr(quantise_module, "GOAL", 1.0)
    faces = faces[:6]
    quantised, kept = quantise_measured(graph, faces)
    sizes = {node.name: graph.constants[node.inputs[1]].size for node in graph.nodes if node.op in ("Conv", "Gemm")}
    assert kept
    assert sum(sizes[name] for name in kept) <= 0.05 * sum(sizes.values())
    on_bytes = {node.name for node in quantised.nodes if any(name.endswith("_dequantized") for name in node.inputs)}
    assert on_bytes == set(sizes) - set(kept)
    monkeypatch.setattr(quantise_module, "GOAL", 0.0)
    assert quantise_measured(graph, faces)[1] == []


@pytest.mark.parametrize(
    ("precision", "least", "share"), [("fp16", 0.9999, 0.51), ("bf16", 0.999, 0.51), ("int8", 0.98, 0.27)]
)
def test_a_smaller_file_embeds_nearly_the_same(exported, unseen, precision, least, share):
    path, (images, expected) = exported / f"{precision}.onnx", unseen
    assert path.stat().st_size < share * (exported / "float32.onnx").stat().st_size
    assert cosines(OnnxEmbedder(path).embed_batch(images), expected).min() > least
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == {"fp16": 11, "bf16": 13, "int8": 13}[precision]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_openvino_computes_in_the_precision_of_the_file(exported, unseen, precision):
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'vargfacenet[openvino]'")
    images, expected = unseen
    found = OnnxEmbedder(exported / f"{precision}.onnx", runtime="openvino").embed_batch(images)
    assert cosines(found, expected).min() > 0.98


def test_int8_that_loses_too_much_leaves_no_file(small, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(quantise_module, "TAILS", (0.45,))
    monkeypatch.setattr(quantise_module, "GOAL", 0.0)
    with pytest.raises(ExportError, match=r"mean cosine -?0.\d+, int8 must reach 0.98; no file was left"):
        export_onnx(small, 0, tmp_path / "out.onnx", precision="int8", calibration=faces[:6])
    assert not list(tmp_path.iterdir())


def test_settings_that_do_not_go_together_are_refused(small, faces, tmp_path):
    for options, message in (
        ({"precision": "int4"}, "unknown precision 'int4': did you mean 'int8'"),
        ({"precision": "int8"}, "int8 needs faces to calibrate on"),
        ({"precision": "int8", "calibration": faces, "target": "onnxruntime"}, "give --target plain or openvino"),
    ):
        with pytest.raises(SettingError, match=message):
            export_onnx(small, 0, tmp_path / "out.onnx", **options)


def test_samples_come_from_folders_and_record_files(face_folder, tmp_path):
    of_records = sample_images(face_folder, 20)
    assert of_records.shape == (20, 3, 112, 112)
    np.testing.assert_array_equal(of_records, sample_images(face_folder / "train.rec", 20))
    (tmp_path / "a").mkdir()
    for number in range(16):
        (tmp_path / "a" / f"{number}.jpg").write_bytes(encode_jpeg(image(0, number)))
    assert len(sample_images(tmp_path, 20)) == 16
    (tmp_path / "a" / "0.jpg").unlink()
    with pytest.raises(DataError, match="has 15 images; calibration needs at least 16"):
        sample_images(tmp_path, 20)
    with pytest.raises(DataError, match="is neither a folder of images nor a .rec file"):
        sample_images(tmp_path / "b", 20)


def test_export_prints_what_int8_costs(capsys, small, face_folder, tmp_path):
    arguments = ["export", str(small), str(tmp_path / "x.onnx"), "--precision", "int8", "--calibrate", str(face_folder)]
    assert main([*arguments, "--calibration-images", "16"]) == 0
    out = capsys.readouterr().out
    assert "mean cosine 0.9" in out
    assert "onnxruntime: " in out
    assert json.loads(OnnxEmbedder(tmp_path / "x.onnx").metadata["network_options"])["multiplier"] == 0.25
    assert "int8 needs faces" in refused(capsys, *arguments[:5])


def test_several_precisions_are_several_files_and_one_table(capsys, small, pairs_file, tmp_path, monkeypatch):
    monkeypatch.setattr("vargfacenet.deploy.measure.ROUNDS", 1)
    monkeypatch.setattr("vargfacenet.deploy.measure.LEAST_SECONDS", 0.001)
    options = ["--precision", "float32", "fp16", "--verify", str(pairs_file)]
    assert main(["export", str(small), str(tmp_path / "out"), *options]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    files = ["float32.onnx", "fp16.onnx"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files)
    sizes = [float(line[1]) for line in lines if line and line[0] in files and "stripes" not in line]
    assert sizes == [pytest.approx((tmp_path / "out" / name).stat().st_size / 1e6, abs=0.005) for name in files]
    scores = [line for line in lines if "stripes" in line]
    assert [line[0] for line in scores] == ["checkpoint", *files]
    assert [line[2] for line in scores] == ["mxnet", "onnxruntime", "onnxruntime"]
    assert scores[0][3:] == scores[1][3:]


def test_a_precision_that_cannot_be_is_refused_before_any_file_is_written(capsys, small, tmp_path):
    for precisions, message in (
        (["float32", "int8"], "int8 needs faces"),
        (["fp16", "int4"], "unknown precision 'int4'"),
    ):
        assert message in refused(capsys, "export", small, tmp_path / "out", "--precision", *precisions)
        assert not (tmp_path / "out").exists()


def test_openvino_embeds_alike_for_any_number_of_images(exported, unseen):
    """One and two images have networks of fixed size."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'vargfacenet[openvino]'")
    images, expected = unseen
    embedder = OnnxEmbedder(exported / "float32.onnx", runtime="openvino")
    for count in (1, 2, 4):
        assert relative_error(embedder.embed_batch(images[:count]), expected[:count]) < 1e-4


def test_int8_is_exact_about_nothing_it_should_not_touch(small, faces):
    """Slopes and biases stay float32, bit for bit."""
    graph = translate(load_checkpoint(small, 0))
    quantised, _ = quantise_measured(graph, faces[:6])
    weights = {node.inputs[1] for node in graph.nodes if node.op in ("Conv", "Gemm")}
    for name in set(graph.constants) - weights:
        np.testing.assert_array_equal(quantised.constants[name], graph.constants[name])


def test_linear_layers_on_tokens_have_half_the_bytes_too(tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "edgeface", size="xxs")
    whole = export_onnx(prefix, 0, tmp_path / "whole.onnx")
    for precision in ("fp16", "bf16"):
        half = export_onnx(prefix, 0, tmp_path / f"{precision}.onnx", precision=precision)
        assert half.bytes < 0.56 * whole.bytes


def test_a_linear_layer_on_tokens_is_quantised_for_each_output_channel():
    """Tokens that are whole numbers 0..255 and a scale of 1 make the input exact."""
    random = np.random.RandomState(0)
    weight = random.normal(size=(3, 4)).astype(np.float32) * np.float32([1, 10, 0.1, 1])  # (in, out)
    nodes = [
        Node("Transpose", "tokens", ["data"], {"perm": [0, 2, 3, 1]}),
        Node("MatMul", "linear", ["tokens", f"w{ON_TOKENS}"]),
        Node("ReduceMean", "mean", ["linear"], {"axes": [1, 2], "keepdims": 0}),
    ]
    graph = Graph(nodes, {f"w{ON_TOKENS}": weight}, "mean", 4)
    assert graph.layers() == {"linear": 1}
    images = random.randint(0, 256, (2, 3, 112, 112)).astype(np.float32)
    found = quantise_module._embed(quantise(graph, ["linear"], {"tokens": (0.0, 255.0)}), images)
    scale = np.abs(weight).max(axis=0) / 127
    expected = images.mean(axis=(2, 3)) @ (np.rint(weight / scale) * scale)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_weights_of_an_interpolation_stay_float32(tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "ghostfacenet", version=2, width=0.25, stride=2)
    graph = translate(load_checkpoint(prefix, 0))
    assert {node.op for node in graph.nodes if node.name in graph.layers()} == {"Conv", "Gemm"}
    assert "MatMul" in {node.op for node in graph.nodes}
