"""The zoo: its figures are those counted and measured, its picture and tables show them, and it exports every network."""

import itertools
import json

import mxnet as mx
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vargfacenet.bench import exports as exports_module
from vargfacenet.bench import zoo as zoo_module
from vargfacenet.bench.exports import export_forms
from vargfacenet.bench.parameters import varied_parameters
from vargfacenet.bench.published import SETS, ZOO, Published
from vargfacenet.bench.rounds import Outcome
from vargfacenet.bench.zoo import Turns, _spread, draw_zoo, zoo
from vargfacenet.commands import main
from vargfacenet.deploy.probe import probe_images
from vargfacenet.errors import ExportError, SettingError, SetupError
from vargfacenet.symbols import get_symbol, list_networks
from vargfacenet.symbols.complexity import complexity

ONCE = Turns(single=1)
SMALL = Published("small", "vargfacenet", {"multiplier": 0.25, "units": (1, 1, 1), "embedding_size": 16})


@pytest.fixture
def timed(monkeypatch):
    """Contenders take 20 ms an image to embed and 50 to train, without being run."""

    def turns(contenders, *, rounds):
        def turn(work):
            count = work.get("batches", work.get("updates")) * work["batch_size"]
            return {"items": count, "seconds": count * (0.05 if "updates" in work else 0.02)}

        return [Outcome(one.name, [turn(one.options)] * rounds, None) for one in contenders]

    monkeypatch.setattr(zoo_module, "take_turns", turns)


def test_entries_are_of_networks_here_and_percentages():
    assert (
        len({entry.title for entry in ZOO}) == len({(entry.network, str(entry.options)) for entry in ZOO}) == len(ZOO)
    )
    for entry in ZOO:
        values = [getattr(entry, name) for name in SETS if getattr(entry, name) is not None]
        assert all(88 < value < 100 for value in values)
        assert bool(values) == bool(entry.source)


def test_every_network_here_is_in_the_zoo():
    assert {entry.network for entry in ZOO} == set(list_networks())


def test_rows_are_counted_and_sorted_by_flops(timed):
    rows = zoo(["mobilefacenet", "shufflefacenet"], turns=Turns(3, 3))
    assert [row.published.title for row in rows] == [
        "ShuffleFaceNet 0.5x",
        "ShuffleFaceNet 1x",
        "MobileFaceNet y1",
        "ShuffleFaceNet 1.5x",
        "ShuffleFaceNet 2x",
    ]
    assert (rows[0].parameters, rows[0].flops) == (525_510, 66_472_854)  # as counted from the source
    y1 = complexity(get_symbol("mobilefacenet"))
    # The scale of its last BN is fixed.
    assert (rows[2].parameters, rows[2].flops) == (y1.parameters - 128, y1.flops)
    assert [row.milliseconds for row in rows] == pytest.approx([20] * 5)
    assert [row.embedded for row in rows] == pytest.approx([50] * 5)
    assert [row.trained for row in rows] == pytest.approx([20] * 5)
    assert zoo(["mobilefacenet"])[0][3:] == (None, None, None)


def test_a_network_that_cannot_be_measured_is_an_error(monkeypatch):
    monkeypatch.setattr(zoo_module, "take_turns", lambda *_, **__: [Outcome("it", [], "no memory")])
    with pytest.raises(SetupError, match="MobileFaceNet y1 cannot be measured: no memory"):
        zoo(["mobilefacenet"], turns=ONCE)
    with pytest.raises(SettingError, match="unknown network 'mobilefacnet': did you mean 'mobilefacenet'"):
        zoo(["mobilefacnet"])


def test_a_network_is_measured_in_a_process_of_its_own():
    (row,) = zoo(["mobilefacenet"], turns=ONCE)
    assert row.milliseconds > 0


@pytest.mark.parametrize("accuracy", SETS)
def test_the_plot_is_drawn(timed, tmp_path, accuracy):
    draw_zoo(zoo(["mobilefacenet", "mobilefacenet_y2"], turns=ONCE), tmp_path / "zoo.png", accuracy=accuracy)
    assert (tmp_path / "zoo.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_and_writes(timed, tmp_path, capsys):
    files = ["--plot", str(tmp_path / "zoo.png"), "--json", str(tmp_path / "zoo.json")]
    assert main(["zoo", "mobilefacenet", "--measure", *files]) == 0
    assert "20.0" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("MobileFaceNet y1"))
    (row,) = json.loads((tmp_path / "zoo.json").read_text())
    assert row["published"]["agedb"] == 96.07
    assert row["published"]["source"]
    assert main(["zoo", "mobilefacenet", "--markdown", str(tmp_path / "zoo.md")]) == 0
    assert (tmp_path / "zoo.md").read_text().splitlines()[-1].startswith("| MobileFaceNet y1 | ")
    capsys.readouterr()
    assert main(["zoo", "--accuracy", "lfv"]) == 2
    assert "unknown set 'lfv': did you mean 'lfw'" in capsys.readouterr().err


def test_the_command_prints_throughput(timed, capsys):
    assert main(["zoo", "mobilefacenet", "--throughput", "2", "--batch-size", "8"]) == 0
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.split()[-2:] == ["embedded/s", "trained/s"]
    assert row.split()[-2:] == ["50.0", "20.0"]


@pytest.mark.parametrize("network", ["vargfacenet", "edgeface"])
def test_parameters_for_a_proof_tell_images_apart_and_are_never_those_of_a_start(network):
    symbol = get_symbol(network, **(SMALL.options if network == "vargfacenet" else {"size": "xxs"}))
    images = probe_images(8, seed=1)
    args, auxs = varied_parameters(symbol, images)
    assert set(args) | set(auxs) == set(symbol.list_arguments() + symbol.list_auxiliary_states()) - {"data"}
    for values in [*args.values(), *auxs.values()]:
        assert np.ptp(values.asnumpy()) > 0
    inputs = {**args, "data": mx.nd.array(images)}
    embeddings = symbol.bind(mx.cpu(), inputs, aux_states=auxs).forward()[0].asnumpy()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert (unit @ unit.T)[~np.eye(8, dtype=bool)].max() < 0.999


def test_running_statistics_for_a_proof_are_those_of_the_images():
    """The first BN of a graph follows one convolution, whose output NumPy knows the mean and variance of."""
    symbol, images = get_symbol("vargfacenet", **SMALL.options), probe_images(4, seed=1)
    args, auxs = varied_parameters(symbol, images)
    first = next(node for node in json.loads(symbol.tojson())["nodes"] if node["op"] == "BatchNorm")["name"]
    inner = symbol.get_internals()
    before = next(name for name in inner.list_outputs() if name.endswith("_output") and "conv" in name)
    values = inner[before].bind(mx.cpu(), {**args, "data": mx.nd.array(images)}, args_grad=None, grad_req="null")
    output = values.forward()[0].asnumpy()
    np.testing.assert_allclose(auxs[f"{first}_moving_mean"].asnumpy(), output.mean(axis=(0, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(auxs[f"{first}_moving_var"].asnumpy(), output.var(axis=(0, 2, 3)), rtol=0.02)


@pytest.mark.slow
def test_a_network_is_measured_in_batches_by_embedding_and_training():
    (row,) = zoo(["mobilefacenet"], turns=Turns(batches=1, batch_size=2))
    assert row.embedded > row.trained > 0


@pytest.mark.parametrize(
    "forms", [["float32", "onnxruntime", "fp16", "bf16"], pytest.param(["int8"], marks=pytest.mark.slow)]
)
def test_a_network_is_exported_in_every_form(forms):
    exports = export_forms(SMALL, forms=forms)
    assert [one.form for one in exports] == forms
    sizes = {one.form: one.bytes for one in exports}
    if "fp16" in sizes:
        assert sizes["float32"] > 1.7 * sizes["fp16"]
    for one in exports:
        assert not one.failures
        assert one.error < {"float32": 1e-4, "onnxruntime": 1e-4, "fp16": 0.02, "bf16": 0.2, "int8": 1}[one.form]
        assert one.cosine > 0.98


def test_a_form_that_is_refused_is_a_row_with_the_reason(monkeypatch, capsys, tmp_path):
    def refuse(*_, target, **__):
        raise ExportError(f"no form for {target}")

    monkeypatch.setattr(exports_module, "export_onnx", refuse)
    monkeypatch.setattr(zoo_module, "ZOO", (SMALL,))
    files = ["--json", str(tmp_path / "zoo.json"), "--markdown", str(tmp_path / "zoo.md")]
    assert main(["zoo", "--export", "float32", "onnxruntime", *files]) == 0
    out = capsys.readouterr().out
    assert "small, float32: no form for plain" in out
    (row,) = json.loads((tmp_path / "zoo.json").read_text())
    assert [one["failures"] for one in row["exports"]] == [["no form for plain"], ["no form for onnxruntime"]]
    assert "| small | onnxruntime | - |" in (tmp_path / "zoo.md").read_text()
    assert main(["zoo", "--export", "int7"]) == 2
    assert "unknown form 'int7': did you mean 'int8'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.title)
def test_every_network_is_exported_at_every_published_size(entry):
    """float32 in both forms and in halves; INT8 takes minutes a network and is measured by the command."""
    for one in export_forms(entry, forms=["float32", "onnxruntime", "fp16"]):
        assert not one.failures
        assert one.error < (0.05 if one.form == "fp16" else 1e-4)


def test_names_in_the_plot_cover_none_of_the_others():
    figure = Figure(figsize=(8, 5))
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    names = [axes.annotate("a network", (0.5, 0.5), (5, 0), textcoords="offset points") for _ in range(5)]
    canvas.draw()
    _spread(names, canvas.get_renderer())
    boxes = [name.get_window_extent(canvas.get_renderer()) for name in names]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
