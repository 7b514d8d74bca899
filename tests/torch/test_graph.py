"""Every network in PyTorch equals the same graph in MXNet: outputs, gradients of all parameters, running statistics."""

import json

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.symbols.test_family import FAMILY
from tests.torch.compare import drawn_values, in_mxnet, in_pytorch, module_with, relative, unequal
from vargfacenet.errors import CheckpointError
from vargfacenet.operators import runnable
from vargfacenet.symbols import get_symbol, list_networks
from vargfacenet.torch import SymbolModule

DATA = (3, 3, 112, 112)
SMALL = {
    "vargfacenet": {"multiplier": 0.25, "units": (1, 1, 1), "embedding_size": 16},
    "vargfacenet_insightface": {"multiplier": 0.25, "units": (1, 1, 1), "embedding_size": 16},
    **{f"resnet{depth}": {"multiplier": 0.125} for depth in (18, 34, 50, 100)},
    "edgeface": {"size": "xxs"},
    "ghostfacenet": {"width": 0.25, "stride": 2},
    "mixfacenet": {"size": "xs", "width": 0.25},
    "shufflefacenet": {"width": 0.5},
}
SLOW = {"resnet34", "resnet100", "mobilefacenet_y2", "arcface_mbf", "pocketnet"}
SLOW |= {f"iresnet{depth}" for depth in (18, 34, 50, 100)}
# EdgeFace makes positions of float32 numbers, which MXNet does not mix with float64.
FLOAT32 = {"edgeface"}
CASES = [
    *(
        pytest.param(name, SMALL.get(name, {}), id=name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in list_networks()
    ),
    *(
        pytest.param(name, {}, id=f"published-{name}", marks=pytest.mark.slow)
        for name in SMALL
        if name not in {facts["network"] for facts in FAMILY.values()}
    ),
    pytest.param("ghostfacenet", {"version": 2, "width": 0.25, "stride": 2}, id="ghostfacenet_v2"),
    pytest.param("mixfacenet", {"size": "xs", "width": 0.25, "shuffle": True}, id="shufflemixfacenet"),
    pytest.param("vargfacenet", {**SMALL["vargfacenet"], "activation": "softrelu"}, id="softrelu"),
    *(
        pytest.param(facts["network"], facts["options"], id=f"published-{name}", marks=pytest.mark.slow)
        for name, facts in FAMILY.items()
    ),
]


def network(name, options):
    """A graph without dropout, which draws other numbers in each library."""
    text = get_symbol(name, **options).tojson()
    return mx.sym.load_json(text.replace('"p": "0.4"', '"p": "0"'))


def images(seed=0):
    return np.random.RandomState(seed).uniform(0, 255, DATA).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_network_is_that_of_mxnet(name, options):
    symbol = network(name, options)
    values, inputs = drawn_values(symbol, data=DATA), {"data": images()}
    precise = name not in FLOAT32
    dtypes = ("float64", torch.float64) if precise else ("float32", torch.float32)
    direction = [np.random.RandomState(1).normal(size=symbol.infer_shape(data=DATA)[1][0])]
    ours = in_pytorch(symbol, inputs, values, training=True, dtype=dtypes[1], directions=direction)
    form = runnable(symbol, for_training=True, data_shape=DATA, backend="basic")
    theirs = in_mxnet(form, inputs, values, training=True, dtype=dtypes[0], directions=direction)
    assert relative(ours[0][0], theirs[0][0]) < 1e-5
    fixed = module_with(symbol, values).fixed
    assert set(ours[1]) == set(theirs[1]) - fixed
    assert all(not theirs[1][scale].any() for scale in fixed)
    assert unequal(ours[1], theirs[1], allowed=1e-4, least=1e-6 if precise else 1e-4) == {}
    for statistic, value in theirs[2].items():
        assert relative(ours[2][statistic], value) < 1e-5, statistic

    # Inference, with statistics of the batch, which keep the numbers in proportion.
    for statistic, value in ours[2].items():
        values[statistic] = ((value - 0.9 * values[statistic]) / 0.1).clip(1e-6 if "var" in statistic else None)
    form = runnable(symbol, data_shape=DATA, backend="basic")
    for dtype, theirs_dtype, allowed in ((dtypes[1], dtypes[0], 1e-5), (torch.float32, "float32", 5e-5)):
        found, _, _ = in_pytorch(symbol, inputs, values, training=False, dtype=dtype)
        expected, _, _ = in_mxnet(form, inputs, values, training=False, dtype=theirs_dtype)
        assert relative(found[0], expected[0]) < allowed, dtype


def test_channels_last_gives_the_same():
    symbol = network("vargfacenet", SMALL["vargfacenet"])
    module = module_with(symbol, drawn_values(symbol, data=DATA), dtype=torch.float32).eval()
    data = torch.from_numpy(images()).float()
    with torch.no_grad():
        plain = module(data)
        last = module.to(memory_format=torch.channels_last)(data.contiguous(memory_format=torch.channels_last))
    assert relative(last.numpy(), plain.double().numpy()) < 1e-5


def test_an_unknown_operator_names_its_node():
    text = mx.sym.erf(mx.sym.var("data"), name="odd").tojson()
    with pytest.raises(CheckpointError, match="node 'odd' is a erf, an operator that the PyTorch engine does not know"):
        SymbolModule(text, {})


def test_an_attribute_that_would_change_values_is_refused():
    pooled = mx.sym.Pooling(mx.sym.var("data"), kernel=(3, 3), stride=(2, 2), pooling_convention="full", name="pool")
    with pytest.raises(CheckpointError, match=r"the Pooling 'pool' has kernel=\(3, 3\) and pooling_convention=full"):
        SymbolModule(pooled.tojson(), {})
    graph = json.loads(mx.sym.Flatten(mx.sym.var("data"), name="flat").tojson())
    graph["nodes"][1]["attrs"] = {"order": "F"}
    with pytest.raises(CheckpointError, match="the Flatten 'flat' has the attribute order=F, which is not known here"):
        SymbolModule(json.dumps(graph), {})


def test_a_parameter_without_a_shape_is_named():
    text = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc1").tojson()
    with pytest.raises(CheckpointError, match="the graph reads 'fc1_bias', which is neither an input nor a parameter"):
        SymbolModule(text, {"fc1_weight": (3, 4)})


def test_values_that_nobody_reads_again_are_let_go():
    symbol = network("vargfacenet", SMALL["vargfacenet"])
    module = module_with(symbol, drawn_values(symbol, data=DATA))
    read = [source for step in module._steps for source, _ in step.sources]
    freed = [place for step in module._steps for place in step.last_uses]
    assert sorted(freed) == sorted(set(read))
