"""The plan of a run in PyTorch against what PyTorch itself keeps for the gradient."""

import json

import numpy as np
import pytest
import torch

from tests.helpers.training import tiny
from tests.torch.compare import drawn_values, module_with
from vargfacenet.commands import main
from vargfacenet.torch.graph_memory import classifier_bytes, graph_bytes
from vargfacenet.train.build import make_optimizer
from vargfacenet.train.graph import training_graph
from vargfacenet.train.plan import Place, Workload, make_plan

LABELS = {"softmax_label": None}
SMALL = ["multiplier=0.25", "units=1,1,1"]
WORK = Workload(identities=300, images=24)


def graph(**settings):
    config = tiny(**settings)
    return training_graph(config.build_symbol(), config, WORK.identities, backend="stock")


@pytest.mark.parametrize("rows", [4, 9])
def test_the_plan_is_what_autograd_keeps_and_little_more(rows):
    symbol = graph()
    inputs = {"data": np.zeros((rows, 3, 112, 112)), "softmax_label": np.zeros(rows)}
    module = module_with(
        symbol, drawn_values(symbol, data=(rows, 3, 112, 112), softmax_label=(rows,)), tuple(inputs), torch.float32
    ).train()
    kept, own = {}, {value.untyped_storage().data_ptr() for value in module.parameters()}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = module(*(torch.tensor(value, dtype=torch.float32) for value in inputs.values()))
    expected = sum(size for place, size in kept.items() if place not in own)
    numbers, planned = graph_bytes(symbol, rows, LABELS)
    assert numbers == sum(value.numel() for value in module.parameters())
    assert expected <= planned <= 1.35 * expected
    assert len(outputs) > 1


def test_a_graph_that_only_embeds_keeps_hardly_anything_and_half_precision_half():
    symbol = graph()
    training, embedding = (graph_bytes(symbol, 16, LABELS, for_training=each)[1] for each in (True, False))
    assert embedding < 0.4 * training
    assert graph_bytes(symbol, 16, LABELS, precision="bfloat16")[1] == pytest.approx(training / 2, rel=0.15)


def test_parts_of_a_batch_take_their_share_of_the_activations():
    whole, parts = (
        make_plan(tiny(engine="torch", batch_size=32, accumulate=each), Place("cpu", engine="torch"), WORK)
        for each in (1, 4)
    )
    assert whole.device["network: activations"] == pytest.approx(4 * parts.device["network: activations"], rel=0.1)
    assert whole.device["network: parameters"] == parts.device["network: parameters"]
    # Several CPUs are slices of one network, computed one after another.
    slices = make_plan(tiny(engine="torch", batch_size=32), Place("cpu", 4, engine="torch"), WORK)
    assert slices.device["network: activations"] == parts.device["network: activations"]
    assert slices.total == pytest.approx(parts.total, rel=0.05)


@pytest.mark.parametrize("loss", ["adaface", "subcentre", "curricularface", "softmax"])
def test_every_kind_of_loss_can_be_planned(loss):
    plans = [
        make_plan(tiny(loss=loss, head=head, engine="torch"), Place("cpu", engine="torch"), WORK)
        for head in ("dense", "sharded")
    ]
    centres = 3 if loss == "subcentre" else 1
    assert {plan.device["classifier: weights"] for plan in plans} == {4 * 300 * (16 * centres + (loss == "softmax"))}


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_a_classifier_takes_its_weights_momenta_and_the_arrays_of_an_update(rate):
    config = tiny(head="sharded", engine="torch")
    rows, size, batch = 20_000, 16, 64
    options = {"sgd": make_optimizer(config), "margin": config.sharded_margin(), "sample_rate": rate}
    found = classifier_bytes((rows, size), batch, **options)
    taken = int(rate * rows)
    # Weights and momenta of all rows; of those that take part, at least logits with and without margin and a gradient.
    least = 4 * (2 * rows * size + 3 * batch * taken)
    assert least < found < least + 4 * (4 * batch * taken + 8 * taken * size + 10**5)


def test_the_command_plans_what_the_chosen_engine_takes(capsys):
    command = ["plan", "student_scratch", "--device", "cpu:0", "--set", "batch_size=16", *SMALL]
    plans = {}
    for engine in ("mxnet", "torch"):
        assert main([*command, "--memory", "64", "--engine", engine, "--json", "-"]) == 0
        plans[engine] = json.loads(capsys.readouterr().out)
        assert plans[engine]["engine"] == engine
    names = "network: parameters", "classifier: weights"
    assert all(plans["torch"]["device"][name] == plans["mxnet"]["device"][name] for name in names)
    assert plans["torch"]["device"]["network: activations"] > plans["mxnet"]["device"]["network: activations"]
    assert main(["plan", "student_scratch", "--device", "cuda:0,cuda:1", "--memory", "80", "--set", *SMALL]) == 0
    assert "on 2 GPU(s) by PyTorch: batch 512, 256 a device" in capsys.readouterr().out
    assert main([*command, "head=sharded", "accumulate=2", "--engine", "torch"]) == 2
    assert "one slice of the classifier and one of the batch" in capsys.readouterr().err


def test_parts_of_a_batch_are_among_the_remedies(capsys):
    command = ["plan", "student_scratch", "--device", "cuda:0", "--memory", "3", "--set", *SMALL]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "what would fit: " in error
    parts = error.partition("accumulate=")[2].split()[0]
    assert main([*command, f"accumulate={parts}"]) == 0
