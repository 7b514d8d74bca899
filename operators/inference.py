"""Networks whose parameters do not change any more.

In a pass over one image, the native kernels would spend a quarter of the time on putting weights into the order in which
they read them. Here that is done once, and BN goes into the weights meanwhile.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.formats.checkpoint import fitting_parameters
from vargfacenet.operators.library import load_library
from vargfacenet.operators.nodes import Copy, Node
from vargfacenet.operators.rewrite import runnable

Parameters = dict[str, mx.nd.NDArray]

_PACKED = {
    "vargfacenet_inference": "vargfacenet_packed",
    "vargfacenet_inference_prelu": "vargfacenet_packed_prelu",
}


def inference_form(
    symbol: mx.sym.Symbol,
    args: Mapping[str, mx.nd.NDArray],
    auxs: Mapping[str, mx.nd.NDArray],
    *,
    device: mx.Context | None = None,
) -> tuple[mx.sym.Symbol, Parameters, Parameters]:
    """Return the graph to run instead of a network whose parameters are fixed, with its parameters and running statistics.

    Parameters
    ----------
    symbol
        The plain graph from ``data`` to the embedding.
    args, auxs
        Its parameters and running statistics.
    device
        Where the graph will run; by default the CPU.

    Raises
    ------
    CheckpointError
        Where one is missing or misshapen.
    SettingError, SetupError
        As from `vargfacenet.operators.choose_backend`.
    """
    known, states = fitting_parameters(symbol, args, auxs, "the network")
    known = {**known, **states}
    copy = Copy(runnable(symbol, device=device), (2, *IMAGE_SHAPE))
    excitations = _excitations(copy)
    inner = {node["name"] for nodes in excitations.values() for node in nodes}
    for node in copy.old:
        if node["name"] in inner:
            copy.drop()
        elif node["name"] in excitations:
            _place_excitation(copy, node, excitations[node["name"]])
        elif node["op"] in _PACKED and all(name in known for name in _parameters(copy, node)):
            known.update(_place_packed(copy, node, known))
        else:
            copy.place(node["op"], node["name"], copy.inputs(node), **node.get("attrs", {}))
    graph = copy.symbol()
    return (
        graph,
        {name: known[name] for name in graph.list_arguments() if name != "data"},
        {name: known[name] for name in graph.list_auxiliary_states()},
    )


def _parameters(copy: Copy, node: Node) -> list[str]:
    """Return the names of the nodes that weight, gamma, beta, mean and variance come from."""
    return [copy.source(node, place)["name"] for place in range(1, 6)]


def _place_packed(copy: Copy, node: Node, known: Mapping[str, mx.nd.NDArray]) -> Parameters:
    """Place a convolution with its BN, and the PReLU where there is one; return its packed weights and shifts by name."""
    x, _, _, _, _, _, *slope = copy.inputs(node)
    weight, gamma, beta, mean, variance = (known[name].asnumpy() for name in _parameters(copy, node))
    attrs = node["attrs"]
    with np.errstate(all="ignore"):  # a variance that is not positive gives what it gives in BN
        factors = (1 if attrs["fix_gamma"] == "True" else gamma) / np.sqrt(variance + np.float32(attrs["eps"]))
        packed = pack_weights(weight * factors[:, None, None, None], int(attrs["groups"]))
        shifts = beta - mean * factors
    named = {_unused(copy, f"{node['name']}_packed"): packed, _unused(copy, f"{node['name']}_shift"): shifts}
    entries = [copy.add("null", name, [], __shape__=str(value.shape)) for name, value in named.items()]
    size = {name: attrs[name] for name in ("stride", "groups", "channels")}
    copy.place(_PACKED[node["op"]], node["name"], [x, *entries, *slope], kernel=str(weight.shape[2]), **size)
    return {name: mx.nd.array(value, dtype=np.float32) for name, value in named.items()}


def _unused(copy: Copy, name: str) -> str:
    """Return a name that no node has."""
    while any(node["name"] == name for node in copy.old):
        name += "_"
    return name


def _excitations(copy: Copy) -> dict[str, list[Node]]:
    """Return squeeze and excitation's mean, two layers and PReLU between them, by the name of the sigmoid after them."""
    found = {}
    for mean in copy.old:
        nodes = [mean]
        for matches in (_is_linear, _is_prelu, _is_linear, _is_sigmoid):
            reader = copy.only_reader(copy.index(nodes[-1])) if mean["op"] == "vargfacenet_mean" else None
            if reader is None or copy.source(reader) is not nodes[-1] or not matches(reader):
                break
            nodes.append(reader)
        else:
            if copy.shape(nodes[3], 1)[0] != copy.shape(mean)[1]:
                continue  # weights of other things than the channels
            found[nodes[-1]["name"]] = nodes[:-1]
    return found


def _is_linear(node: Node) -> bool:
    """Return whether a node is a linear layer of single pixels, in which all outputs depend on all inputs."""
    attrs = node.get("attrs", {})
    plain = all(attrs.get(name, usual) == usual for name, usual in (("kernel", "(1, 1)"), ("pad", "(0, 0)")))
    return node["op"] == "Convolution" and plain and attrs.get("num_group", "1") == "1" and len(node["inputs"]) == 3


def _is_prelu(node: Node) -> bool:
    return node["op"] == "vargfacenet_prelu"


def _is_sigmoid(node: Node) -> bool:
    return node["op"] == "Activation" and node["attrs"]["act_type"] == "sigmoid"


def _place_excitation(copy: Copy, node: Node, nodes: Sequence[Node]) -> None:
    mean, squeeze, prelu, excite = nodes
    inputs = [*copy.inputs(mean), *copy.inputs(squeeze)[1:], *copy.inputs(prelu)[1:], *copy.inputs(excite)[1:]]
    for layer in (squeeze, excite):
        for place in (1, 2):
            copy.set_shape(copy.inputs(layer)[place], copy.shape(layer, place))
    copy.place("vargfacenet_excitation", node["name"], inputs)


def pack_weights(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return weights (outputs, inputs of a group, kernel, kernel) in the order of the kernels: float32, one dimension.

    For each group, tiles of as many outputs as a tile of the kernels has rows, each (taps, outputs), the last filled up
    with zeros; see ``kernels/weights.h``.
    """
    outputs, taps = len(weight) // groups, weight[0].size
    high = 1 if outputs == 1 else _tile_rows()
    rows = np.zeros((groups, -(-outputs // high) * high, taps), np.float32)
    rows[:, :outputs] = weight.reshape(groups, outputs, taps)
    return rows.reshape(groups, -1, high, taps).transpose(0, 1, 3, 2).reshape(-1)


@functools.cache
def _tile_rows() -> int:
    return int(ctypes.CDLL(str(load_library().path)).vargfacenet_tile_rows())
