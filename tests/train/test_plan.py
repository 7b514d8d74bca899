"""The plan of a run: closed forms, MXNet's own account of memory, and peaks of real runs."""

import dataclasses
import json
import re

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.training import tiny
from vargfacenet import IMAGE_SHAPE
from vargfacenet.commands import main
from vargfacenet.errors import SettingError
from vargfacenet.operators import runnable
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.heads import margin_softmax, softmax
from vargfacenet.symbols.margins import CosineHead, get_margin, margin_head
from vargfacenet.symbols.objective import objective
from vargfacenet.train import memory
from vargfacenet.train.classifier.shard import BLOCK
from vargfacenet.train.config import resolve
from vargfacenet.train.graph_memory import graph_bytes, layout_bytes
from vargfacenet.train.plan import Place, Workload, make_plan
from vargfacenet.train.remedies import refusal, remedies

PAPER = Workload(identities=93_431, images=5_179_510)
MILLION = Workload(identities=1_000_000, images=50_000_000)


def test_a_dense_classifier_by_hand():
    found = memory.dense_classifier(1000, 512, 64)
    assert found == (1000 * 512 * 4, 1000 * 512 * 4, 1000 * 512 * 4, 2 * 64 * 1000 * 4, 2 * 1000 * 512 * 4)
    assert memory.dense_classifier(1000, 512, 64, bias=True, slots=0) == (
        1000 * 513 * 4,
        1000 * 513 * 4,
        0,
        2 * 64 * 1000 * 4,
        0,
    )


def test_the_largest_of_uneven_shards_by_hand():
    found = memory.sharded_classifier(1001, 512, 64, shards=4)
    assert (found.weights, found.optimizer, found.logits) == (251 * 512 * 4, 251 * 512 * 4, 64 * 251 * 4)
    assert found.gradient == 251 * 512 * 4  # less than a block
    assert memory.sharded_classifier(1_000_000, 512, 64, shards=4).gradient == BLOCK * 512 * 4


def test_a_sample_takes_its_share_of_logits_and_all_of_the_weights():
    whole = memory.sharded_classifier(1_000_000, 512, 64, shards=1)
    part = memory.sharded_classifier(1_000_000, 512, 64, shards=1, sample_rate=0.1)
    assert part.logits == whole.logits // 10
    assert part.weights == whole.weights == 1_000_000 * 512 * 4
    # Positives beyond the share take part too.
    assert memory.sharded_classifier(1000, 8, 64, shards=1, sample_rate=0.001).logits == 64 * 64 * 4


def test_updates_and_epochs_by_hand():
    assert memory.epochs(5_179_510, 512, 250_000) == (5_179_510 / 512, 250_000 * 512 / 5_179_510)
    assert memory.input_bytes(3, 2, 5, 7) == 4 * 3 * (70 + 1)


@pytest.mark.parametrize("kind", ["margin", "softmax"])
def test_what_a_dense_head_computes_is_what_mxnet_plans(kind):
    """Of the head's graph, by the executor's account, which counts whole megabytes."""
    identities, size, batch = 20_000, 256, 128
    data, label = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=size, name="before"), mx.sym.var("label")
    if kind == "margin":
        head = margin_softmax(data, label, num_identities=identities, embedding_size=size)
    else:
        head = softmax(data, label, num_identities=identities)
    symbol = objective(identity=head)
    shapes = {"data": (batch, size), "label": (batch,)}
    wanted = {name: "null" if name in shapes else "write" for name in symbol.list_arguments()}
    account = symbol.simple_bind(mx.cpu(), grad_req=wanted, **shapes).debug_str()
    megabytes = int(next(line for line in account.splitlines() if "MB allocated" in line).split()[1])
    expected = memory.dense_classifier(identities, size, batch, bias=kind == "softmax")
    assert megabytes == pytest.approx((expected.logits + expected.work) / 2**20, rel=0.06)


def test_activations_grow_with_the_batch_and_parameters_are_those_of_the_network():
    symbol = mx.sym.Convolution(
        mx.sym.var("data"), kernel=(3, 3), pad=(1, 1), num_filter=16, num_group=1, no_bias=True, name="c"
    )
    symbol = mx.sym.MakeLoss(mx.sym.Activation(symbol, act_type="tanh"))
    numbers, eight = graph_bytes(symbol, 8)
    assert numbers == 16 * 3 * 9
    assert graph_bytes(symbol, 64)[1] == 8 * eight
    assert eight >= 8 * 16 * IMAGE_SHAPE[1] * IMAGE_SHAPE[2] * 4  # at least the convolution's output


def test_what_mxnets_own_convolutions_lay_out_again_by_hand():
    data = mx.sym.var("data")
    first = mx.sym.Convolution(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=16, no_bias=True, name="a")
    second = mx.sym.Convolution(mx.sym.Activation(first, act_type="relu"), kernel=(1, 1), num_filter=8, name="b")
    images, weights = layout_bytes(mx.sym.MakeLoss(second), 6)
    assert weights == 4 * (16 * 3 * 9 + 8 * 16)
    assert images == 6 * 4 * (3 * 112 * 112 + 2 * 16 * 56 * 56 + 8 * 56 * 56)


def test_what_native_neighbours_give_is_counted_too(native):
    """Their outputs have other names in the graph."""
    data = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), pad=(1, 1), num_filter=16, no_bias=True, name="a")
    data = mx.sym.LeakyReLU(mx.sym.BatchNorm(data, name="b"), act_type="prelu", name="c")
    data = mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=16, num_group=16, no_bias=True, name="d")
    graph = runnable(mx.sym.MakeLoss(data), for_training=True, backend="native")
    assert layout_bytes(graph, 4) == (4 * 4 * 2 * 16 * 112 * 112, 4 * 16 * 9)


def test_layouts_are_planned_on_cpus_alone_and_grow_with_the_part_of_a_batch(monkeypatch):
    monkeypatch.setenv("VARGFACENET_OPERATORS", "basic")
    name, config = "layouts of convolutions", tiny(batch_size=32)
    assert name not in make_plan(config, Place("gpu"), PAPER).device
    whole = make_plan(config, Place("cpu"), PAPER).device[name]
    half = make_plan(dataclasses.replace(config, accumulate=2), Place("cpu"), PAPER).device[name]
    quarter = make_plan(dataclasses.replace(config, accumulate=4), Place("cpu"), PAPER).device[name]
    assert whole - half == 2 * (half - quarter) > 0  # and weights, which do not


def test_more_devices_and_machines_take_less_each():
    config = resolve("student", {"head": "sharded"})
    one, eight = (make_plan(config, Place("gpu", count), MILLION) for count in (1, 8))
    four_by_eight = make_plan(config, Place("gpu", 8, machines=4), MILLION)
    assert eight.device["classifier: weights"] * 8 == one.device["classifier: weights"]
    assert eight.device["network: activations"] * 8 == one.device["network: activations"]
    assert four_by_eight.device["classifier: logits"] * 32 == one.device["classifier: logits"]
    assert one.updates_per_epoch == 50_000_000 / 512
    assert one.epochs == 2 * 250_000 * 512 / 50_000_000


def test_a_teacher_that_looks_at_each_image_is_counted():
    config, place = resolve("student"), Place("gpu", 8)
    without, beside = (
        make_plan(config, place, dataclasses.replace(PAPER, teacher=teacher))
        for teacher in (None, get_symbol("resnet18"))
    )
    assert beside.device["teacher"] > 0
    assert beside.total == without.total + beside.device["teacher"]


@pytest.mark.parametrize(("kind", "devices", "count"), [("cpu", 1, 4), ("gpu", 2, 8)])
def test_reading_processes_are_counted_on_the_host(kind, devices, count):
    pytest.importorskip("torch")
    place = Place(kind, devices, engine="torch")
    without, beside = (make_plan(tiny(readers=readers), place, PAPER) for readers in (None, 4))
    processes = beside.host.pop("reading processes")
    assert processes == count * 300 << 20
    assert beside.host == without.host
    assert beside.total == without.total + (processes if kind == "cpu" else 0)


def test_every_remedy_fits():
    config = resolve("student_scratch", {"batch_size": 64})
    on_cpu = make_plan(config, Place("cpu", 1), MILLION).total  # the basic operators need more
    for place, kinds in (
        (Place("gpu", 2, memory=5 << 30), ("head=sharded", "sample_rate", "4 devices")),
        (Place("cpu", 1, memory=int(0.8 * on_cpu)), ("head=sharded", "sample_rate")),
    ):
        assert not make_plan(config, place, MILLION).fits
        found = remedies(config, place, MILLION)
        assert found
        assert all(plan.fits for _, plan in found)
        assert all(any(kind in words for words, _ in found) for kind in kinds)


def test_remedies_are_settings_that_train_takes():
    config = tiny("demo_student", generations=1, distillation="triplet", loss="margin", embedding_size=64)
    work = Workload(identities=400_000, images=10**6)
    half = make_plan(config, Place("cpu"), work).total // 2
    assert not any("sharded" in words for words, _ in remedies(config, Place("cpu", memory=half), work))
    # The largest number of parts has no double.
    parts = tiny(batch_size=65_536, accumulate=65_536)
    assert "the machine needs" in refusal(parts, Place("cpu", memory=1), work, make_plan(parts, Place("cpu"), work))


def test_an_array_larger_than_mxnet_holds_is_refused():
    config = resolve("student_scratch", {"batch_size": 64})
    with pytest.raises(SettingError, match=r"5000000 identities .* head=dense .* array of 2560000000 numbers"):
        make_plan(config, Place("gpu"), Workload(identities=5_000_000, images=10**8))
    sharded = dataclasses.replace(config, head="sharded")
    with pytest.raises(SettingError, match="head=sharded on 1 device"):
        make_plan(sharded, Place("gpu"), Workload(identities=5_000_000, images=10**8))
    make_plan(sharded, Place("gpu", 2), Workload(identities=5_000_000, images=10**8))


def test_the_command_prints_a_plan_of_the_papers_recipe(capsys):
    assert main(["plan", "student", "--device", "8", "--set", "head=sharded"]) == 0
    out = capsys.readouterr().out
    assert "batch 512, 64 a device; 93,431 identities, 5,179,510 images" in out
    assert "classifier: weights" in out
    assert "10,116.2 updates an epoch; 500,000 updates are 49.4 epochs, 256,000,000 images" in out


def test_the_command_takes_the_sizes_of_a_data_set(capsys, face_folder):
    command = ["plan", "demo_student_scratch", "--data", str(face_folder), "--device", "cpu:0", "--json", "-"]
    assert main(command) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["identities"], plan["images"], plan["updates_per_epoch"]) == (4, 24, 24 / 32)
    assert plan["total"] == sum(plan["device"].values()) + sum(plan["host"].values())
    assert plan["limit"] > 2**28


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "4"], r"each GPU needs .* GiB, there are 4.00 GiB; what would fit: .*head=sharded"),
        (["--memory", "0.01"], "the network's parameters alone need 0.06 GiB: give a smaller network"),
        (["--memory", "0.07"], "no batch, sample or number of devices tried would"),
        (["--device", "3"], r"batch_size=512: expected a multiple of the number of devices \(3\)"),
        (["--device", "cpu:0,gpu:0"], "expected CPUs or GPUs, not both"),
        (
            ["--device", "cuda:0", "--engine", "mxnet"],
            "engine=mxnet calls them gpu:N; cuda:N are those of engine=torch",
        ),
        (["--device", "gpu:0", "--engine", "torch"], "engine=torch calls them cuda:N; gpu:N are those of engine=mxnet"),
        (["--device", "0"], "--device=0: expected between 1 and 1024"),
        (["--identities", "0"], "--identities=0: expected between 1 and"),
        (["--data", "x", "--images", "3"], "--data has identities and images of its own"),
        (["--teacher-network", "resnet18"], "student_scratch does not distil"),
        (["--set", "sample_rate=0.1"], "sample_rate=0.1 is of a classifier in shards: give --set head=sharded too"),
    ],
)
def test_what_does_not_fit_or_cannot_be_is_refused(capsys, arguments, message):
    assert main(["plan", "student_scratch", "--device", "8", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vargfacenet plan: error: ")
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_a_network_that_is_too_large_to_be_bound_is_planned_from_shapes(monkeypatch):
    """As if this machine had less free than the graph needs: nothing is bound then."""
    config, place = tiny(multiplier=40, use_se=True), Place("cpu", memory=6 << 30)
    bound = []
    monkeypatch.setattr("vargfacenet.train.graph_memory._bound", lambda *_: bound.append(1) or 0)
    monkeypatch.setattr("vargfacenet.train.graph_memory.free_memory", lambda: 8 << 30)
    plan = make_plan(config, place, PAPER)
    assert not bound
    arguments, _, _ = config.build_symbol().infer_shape(data=(1, *IMAGE_SHAPE))
    numbers = sum(int(np.prod(shape)) for shape in arguments) - int(np.prod(IMAGE_SHAPE))
    assert plan.device["network: parameters"] == 4 * numbers
    assert not plan.fits
    assert "the network's parameters alone need" in refusal(config, place, PAPER, plan)
    # What MXNet shares among arrays is less than what all operators give.
    small = tiny()
    monkeypatch.setattr("vargfacenet.train.graph_memory.free_memory", lambda: 0)
    by_shapes = make_plan(small, place, PAPER)
    assert not bound
    monkeypatch.undo()
    found = make_plan(small, place, PAPER)
    assert found.device["network: parameters"] == by_shapes.device["network: parameters"]
    assert 0 < found.device["network: activations"] < 2 * by_shapes.device["network: activations"]


def test_a_plan_of_distillation_alone_has_no_classifier():
    config = tiny("demo_student", loss="none")
    assert not any("classifier" in name for name in make_plan(config, Place("cpu"), PAPER).device)


@pytest.mark.parametrize(("loss", "centres"), [("adaface", 1), ("curricularface", 1), ("subcentre", 3)])
def test_the_plan_of_a_margin_loss_in_the_graph_is_what_mxnet_allocates(loss, centres):
    """More than that of the combined margin by as many bytes as its head takes more."""
    identities, batch, size = 6000, 64, 128

    def allocated(name, count):
        head = margin_head(
            mx.sym.var("data"),
            mx.sym.var("label"),
            CosineHead(get_margin(name), centres=count),
            num_identities=identities,
            embedding_size=size,
        )
        symbol = objective(identity=head)
        wanted = {key: "null" if key == "label" else "write" for key in symbol.list_arguments()}
        executor = symbol.simple_bind(mx.cpu(), grad_req=wanted, data=(batch, size), label=(batch,))
        return int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1)) * 2**20

    def planned(name, count):
        settings = {"loss": name, "centres": count, "embedding_size": size, "batch_size": batch}
        plan = make_plan(tiny(**settings), Place("cpu"), Workload(identities=identities, images=1000))
        return sum(plan.device[f"classifier: {part}"] for part in ("logits", "work"))

    expected = allocated(loss, centres) - allocated("subcentre", 1)
    assert planned(loss, centres) - planned("subcentre", 1) == pytest.approx(expected, abs=4 * 2**20)
