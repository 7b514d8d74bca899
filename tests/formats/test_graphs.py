"""Graphs that name what they must not, or announce layers out of proportion: refused before MXNet sees them."""

import copy
import json

import mxnet as mx
import pytest

from vargfacenet.errors import CheckpointError
from vargfacenet.formats.graphs import read_graph
from vargfacenet.symbols import get_symbol, list_networks


@pytest.fixture(scope="module")
def graph():
    data = mx.sym.var("data")
    hidden = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, name="conv")
    return json.loads(mx.sym.FullyConnected(hidden, num_hidden=8, name="fc1").tojson())


@pytest.fixture
def read(tmp_path):
    def read(graph):
        path = tmp_path / "x-symbol.json"
        path.write_text(graph if isinstance(graph, str) else json.dumps(graph))
        return read_graph(path, "fc1")

    return read


def changed(graph, name, **attrs):
    graph = copy.deepcopy(graph)
    node = next(node for node in graph["nodes"] if node["name"] == name)
    node["attrs"] = {**node.get("attrs", {}), **attrs}
    return graph


@pytest.mark.parametrize("network", list_networks())
def test_every_published_network_reads_as_it_was_written(read, network):
    symbol = get_symbol(network)
    assert read(symbol.tojson()).tojson() == symbol.tojson()


def test_a_real_graph_of_2018_reads_as_by_mxnet(real_faces):
    path = real_faces / "teacher" / "model-symbol.json"
    theirs = mx.sym.load(str(path)).get_internals()["fc1_output"]
    assert read_graph(path, "fc1").tojson() == theirs.tojson()


def test_operators_behind_the_embedding_never_reach_mxnet(read, graph):
    end = {"op": "Custom", "name": "evil", "attrs": {"op_type": "evil"}, "inputs": [[len(graph["nodes"]) - 1, 0, 0]]}
    behind = {**graph, "nodes": [*graph["nodes"], end], "heads": [[len(graph["nodes"]), 0, 0]]}
    assert read(behind).tojson() == mx.sym.load_json(json.dumps(graph)).tojson()


@pytest.mark.parametrize(
    "op", ["Custom", "_foreach", "_while_loop", "_cond", "_CachedOp", "_sg_mkldnn_conv", "_zeros", "Crop"]
)
def test_an_operator_that_no_embedding_needs_is_refused(read, graph, op):
    other = copy.deepcopy(graph)
    next(node for node in other["nodes"] if node["name"] == "conv")["op"] = op
    with pytest.raises(
        CheckpointError, match=f"node 'conv' is a {op}, an operator that no known embedding network has"
    ):
        read(other)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"num_filter": "1000000000000"}, "num_filter=1000000000000, expected whole numbers in 1..1048576"),
        ({"num_filter": "-1"}, "num_filter=-1"),
        ({"kernel": "(100000, 3)"}, "kernel"),
        ({"kernel": "0"}, "kernel=0"),
        ({"stride": "(0, 0)"}, "stride"),
        ({"pad": "(1e9, 1)"}, "pad"),
        ({"dilate": "__import__('os')"}, "dilate"),
        ({"num_group": "0"}, "num_group=0"),
        ({"workspace": "99999999999999999999"}, "workspace"),
        ({"kernel": "(1,1,1,1,1,1,1,1,1)"}, "kernel"),
        ({"pad_width": "(0, 0, 0, 0, 9999, 0, 0, 0)"}, "pad_width"),
        ({"stop": "99999999"}, "stop=99999999"),
        ({"step": "1e-09"}, "step=1e-09"),
        ({"height": "0"}, "height=0"),
    ],
)
def test_an_attribute_out_of_proportion_is_refused(read, graph, attrs, message):
    with pytest.raises(CheckpointError, match=f"node 'conv': .*{message}"):
        read(changed(graph, "conv", **attrs))


def test_layers_that_grow_out_of_proportion_together_are_refused(read):
    symbol = mx.sym.var("data")
    for _ in range(40):
        symbol = mx.sym.Pooling(symbol, kernel=(1, 1), pad=(60, 60), pool_type="max")
    with pytest.raises(CheckpointError, match=r"for one face, .* has \d+ numbers and all nodes \d+; expected at most"):
        read(mx.sym.FullyConnected(symbol, num_hidden=8, name="fc1").tojson())


def test_a_shape_out_of_proportion_is_refused(read, graph):
    with pytest.raises(CheckpointError, match="__shape__=.9999999999,"):
        read(changed(graph, "conv_weight", __shape__="(9999999999,)"))


@pytest.mark.parametrize(
    "change",
    [
        lambda nodes: nodes[-1].update(inputs=[[len(nodes) - 1, 0, 0]] * 3),  # itself
        lambda nodes: nodes[-1].update(inputs=[[-1, 0, 0]] * 3),
        lambda nodes: nodes[-1].update(inputs=[[True, 0, 0]] * 3),
        lambda nodes: nodes[-1].update(inputs=[[0, 1 << 40, 0]] * 3),
        lambda nodes: nodes[-1].update(inputs=3),
        lambda nodes: nodes[-1].update(inputs=[[]]),
        lambda nodes: nodes[-1].update(op=["Convolution"]),
        lambda nodes: nodes[-1].update(attrs={"num_hidden": 8}),
        lambda nodes: nodes[-1].update(attrs={"x": "y" * 10_000}),
        lambda nodes: nodes.append(None),
    ],
)
def test_a_graph_whose_structure_is_damaged_is_refused(read, graph, change):
    other = copy.deepcopy(graph)
    change(other["nodes"])
    with pytest.raises(CheckpointError, match="is not an MXNet graph, or is damaged"):
        read(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nodes: nodes[-1].update(subgraphs=[{"nodes": []}]), "contains graphs of its own"),
        (lambda nodes: nodes[-1].update(inputs=[[0, 0, 0]]), "has 1 inputs, expected 2 to 3"),
        (lambda nodes: nodes[-1]["inputs"].__setitem__(0, [3, 2, 0]), "reads output 2 of 'conv', which does not exist"),
        (lambda nodes: nodes[0].update(name="conv_weight"), "share a name"),
        (lambda nodes: nodes[0].update(name="image"), "does not depend on an input named 'data'"),
        (lambda nodes: nodes[4].update(inputs=[[0, 0, 0]]), "is a parameter but has inputs"),
        (lambda nodes: nodes.extend([nodes[0]] * 10_000), "nodes, expected at most 10000"),
    ],
)
def test_a_graph_that_mxnet_would_misread_is_refused(read, graph, change, message):
    other = copy.deepcopy(graph)
    change(other["nodes"])
    with pytest.raises(CheckpointError, match=message):
        read(other)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"nodes": ' + "9" * 100_000 + "}", "[]" * 5_000_000, "\x00", "{}", "[]", "3"]
)
def test_json_too_deep_too_long_or_none_is_refused(read, text):
    with pytest.raises(CheckpointError, match="x-symbol.json is not an MXNet graph"):
        read(text)
