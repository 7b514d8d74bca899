"""Networks whose parameters do not change any more.

In a pass over one image, the native kernels would spend a quarter of the time on putting weights into the order in which
they read them. Here that is done once, and BN goes into the weights meanwhile.
"""

from __future__ import annotations

import ctypes
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
    excitations, packed = _excitations(copy), _packed(copy, known)
    inner = {node["name"] for nodes in excitations.values() for node in nodes}
    for node in copy.old:
        if node["name"] in inner:
            copy.drop()
        elif node["name"] in excitations:
            _place_excitation(copy, node, excitations[node["name"]])
        elif node["name"] in packed:
            branches = packed[node["name"]]
            if node is branches[0]:
                known.update(_place_packed(copy, branches, known))
            else:
                copy.place_output(branches[0], branches.index(node))
        else:
            copy.place(node["op"], node["name"], copy.inputs(node), **node.get("attrs", {}))
    graph = copy.symbol()
    return (
        graph,
        {name: known[name] for name in graph.list_arguments() if name != "data"},
        {name: known[name] for name in graph.list_auxiliary_states()},
    )


def _parameters(copy: Copy, node: Node) -> list[str]:
    """Return the names of the nodes that weight, gamma, beta, mean, variance and slopes, if any, come from."""
    return [copy.source(node, place)["name"] for place in range(1, len(node["inputs"]))]


def _packed(copy: Copy, known: Mapping[str, mx.nd.NDArray]) -> dict[str, list[Node]]:
    """Return, by the name of each convolution whose weights can be packed, those that one operator computes together.

    They are of one size and of one input, which would be copied for each of them (see ``kernels/conv.h``), as in the
    branches of a block that halves the image. 1x1 convolutions with stride 1 need no such copy, and those of single
    channels another tile.
    """
    found: dict[tuple, list[Node]] = {}
    for node in copy.old:
        if node["op"] not in _PACKED:
            continue
        names = _parameters(copy, node)
        if not all(name in known for name in names[:5]):
            continue
        shape, attrs = copy.shape(node, 1), node["attrs"]
        key = (node["op"], *node["inputs"][0], *shape, attrs["stride"])
        is_pointwise = shape[2] == 1 and attrs["stride"] == "1"
        slopes_are_computed = names[-1] not in known
        if is_pointwise or shape[0] == int(attrs["groups"]) or slopes_are_computed:
            key = (node["name"],)
        found.setdefault(key, []).append(node)
    return {node["name"]: nodes for nodes in found.values() for node in nodes}


def _place_packed(copy: Copy, nodes: Sequence[Node], known: Mapping[str, mx.nd.NDArray]) -> Parameters:
    """Place convolutions of one input with their BN, and the PReLU where there is one, as one node.

    Return its weights, shifts and, of several convolutions, slopes, by name.
    """
    x, _, _, _, _, _, *slope = copy.inputs(nodes[0])
    name, attrs, kernel = nodes[0]["name"], nodes[0]["attrs"], copy.shape(nodes[0], 1)[2]
    groups = int(attrs["groups"])
    folded = [_folded(node, [known[one].asnumpy() for one in _parameters(copy, node)[:5]]) for node in nodes]
    weights, shifts = (_by_group(arrays, groups) for arrays in zip(*folded))
    values = {"packed": pack_weights(weights, groups, int(attrs["stride"])), "shift": shifts}
    if len(nodes) > 1 and slope:
        slope = []
        values["slope"] = _by_group([known[_parameters(copy, node)[5]].asnumpy() for node in nodes], groups)
    named = {_unused(copy, f"{name}_{suffix}"): value for suffix, value in values.items()}
    entries = [copy.add("null", new, [], __shape__=str(value.shape)) for new, value in named.items()]
    size = {key: attrs[key] for key in ("stride", "groups", "channels")}
    op, inputs = _PACKED[nodes[0]["op"]], [x, *entries, *slope]
    copy.place(op, name, inputs, kernel=str(kernel), branches=str(len(nodes)), **size)
    return {new: mx.nd.array(value, dtype=np.float32) for new, value in named.items()}


def _folded(node: Node, parameters: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and shifts of a convolution and its BN, of weight, gamma, beta, mean and variance."""
    weight, gamma, beta, mean, variance = parameters
    fixed, eps = node["attrs"]["fix_gamma"] == "True", np.float32(node["attrs"]["eps"])
    with np.errstate(all="ignore"):  # a variance that is not positive gives what it gives in BN
        factors = (1 if fixed else gamma) / np.sqrt(variance + eps)
        return weight * factors[:, None, None, None], beta - mean * factors


def _by_group(arrays: Sequence[np.ndarray], groups: int) -> np.ndarray:
    """Return one array of those of several convolutions (outputs, ...): all outputs of a group, then the next group's."""
    parts = [array.reshape(groups, -1, *array.shape[1:]) for array in arrays]
    return np.concatenate(parts, axis=1).reshape(-1, *arrays[0].shape[1:])


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


def pack_weights(weight: np.ndarray, groups: int, stride: int) -> np.ndarray:
    """Return weights (outputs, inputs of a group, kernel, kernel) as the kernels read them: float32, one dimension.

    ``kernels/weights.h`` describes their order, in which some are sums of weights.
    """
    outputs, inputs, kernel, _ = weight.shape
    weight = np.ascontiguousarray(weight, np.float32)
    pointer, pack = ctypes.POINTER(ctypes.c_float), ctypes.CDLL(str(load_library().path)).vargfacenet_pack
    pack.argtypes, pack.restype = [*5 * [ctypes.c_int64], pointer, pointer], ctypes.c_int64
    size = (inputs, outputs // groups, groups, kernel, stride, weight.ctypes.data_as(pointer))
    packed = np.empty(pack(*size, None), np.float32)
    pack(*size, packed.ctypes.data_as(pointer))
    return packed
