"""Rewriting of graphs for the targets of an export: the result stays the same."""

import numpy as np
import onnxruntime
import pytest

from tests.helpers.networks import save_random_checkpoint
from vargfacenet.deploy.graph import Graph, Node
from vargfacenet.deploy.padding import pad_channels
from vargfacenet.deploy.targets import merge_groups, prelu_as_convolutions
from vargfacenet.deploy.translate import translate
from vargfacenet.formats.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).randint(0, 256, (3, 3, 112, 112)).astype(np.float32)


def _outputs(graph, images):
    return onnxruntime.InferenceSession(graph.to_onnx(opset=11, ir_version=6).SerializeToString()).run(
        None, {"data": images}
    )[0]


def _image_graph(nodes, constants):
    """`nodes` between the input and a mean over each channel."""
    end = [Node("GlobalAveragePool", "mean", [nodes[-1].name]), Node("Flatten", "rows", ["mean"], {"axis": 1})]
    channels = constants[nodes[-1].inputs[1]].shape[0]
    return Graph([*nodes, *end], constants, "rows", channels)


@pytest.mark.parametrize("highest", [0.9, 1.7])
def test_prelu_is_rewritten_for_slopes_of_any_size_and_sign(images, highest):
    slopes = np.float32([-0.5, 0.2, highest]).reshape(3, 1, 1)
    middle = Node("Sub", "middle", ["data", "half"])
    graph = _image_graph(
        [middle, Node("PRelu", "prelu", ["middle", "slope"])], {"slope": slopes, "half": np.float32(127.5)}
    )
    x = images - 127.5
    expected = np.where(x > 0, x, slopes * x).mean(axis=(2, 3))
    prelu_as_convolutions(graph)
    assert "PRelu" not in {node.op for node in graph.nodes}
    np.testing.assert_allclose(_outputs(graph, images), expected, rtol=1e-4, atol=1e-3)


def test_groups_are_merged_and_channels_padded_without_changing_the_result(tmp_path, images):
    """40 channels in five groups of 8: six groups of 8 after padding, three of 16 after merging."""
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", units=(1, 1, 1), embedding_size=16)
    graph = translate(load_checkpoint(prefix, 0))
    expected = _outputs(graph, images)
    groups = {node.name: node.attrs["group"] for node in graph.nodes if node.op == "Conv"}
    assert pad_channels(graph, block=16)
    merge_groups(graph)
    after = {node.name: node.attrs["group"] for node in graph.nodes if node.op == "Conv"}
    assert 5 in groups.values()
    assert {after[name] for name, group in groups.items() if group == 5} == {3}
    assert all(len(graph.constants[node.inputs[1]]) % 16 == 0 for node in graph.nodes if node.op == "Conv")
    np.testing.assert_allclose(_outputs(graph, images), expected, rtol=1e-4, atol=1e-5)


def test_a_graph_whose_channels_meet_is_not_padded():
    graph = _image_graph([Node("LRN", "lrn", ["data", "size"])], {"size": np.zeros((3, 1), np.float32)})
    assert not pad_channels(graph, block=16)
