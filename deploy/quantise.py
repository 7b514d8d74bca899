"""INT8 quantisation by calibration, with the most sensitive layers kept in float32."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from vargfacenet.deploy.graph import INPUT, Graph, Node
from vargfacenet.deploy.probe import cosines
from vargfacenet.deploy.runtime import import_package
from vargfacenet.environment import usable_cores
from vargfacenet.progress import progress

OPSET, IR_VERSION = 13, 7  # the first opset with a scale for each channel
TAILS = (1e-5, 1e-4, 1e-3)  # candidates for the share of values at either end that is clipped
GOAL, MOST_FLOAT = 0.99, 0.05

Ranges = Mapping[str, tuple[float, float]]  # of the inputs of layers, by name


def quantise_measured(graph: Graph, images: np.ndarray) -> tuple[Graph, list[str]]:
    """Quantise a float32 graph except for the most sensitive layers; return the new graph and these layers' names.

    A third of the images gives the ranges; on the others the cosine to float32 is measured. The one of `TAILS` with the
    largest cosine is taken. Then each layer alone is quantised, and those that lose most stay in float32 until the
    cosine reaches `GOAL`, as long as they hold no more than `MOST_FLOAT` of all weights.

    Parameters
    ----------
    images
        Aligned faces: float32 (n, 3, 112, 112), RGB, 0..255.
    """
    part = -(-len(images) // 3)
    seen, unseen = images[:part], images[part:]
    layers = list(graph.layers())
    expected = _embed(graph, unseen)

    def cosine(chosen: Sequence[str], found: Ranges, count: Optional[int] = None) -> float:
        return cosines(_embed(quantise(graph, chosen, found), unseen[:count]), expected[:count]).mean()

    candidates = []
    for tail in progress(TAILS, unit="range", desc="int8: ranges of values", leave=False):
        one = ranges(graph, layers, seen, tail)
        candidates.append((cosine(layers, one), one))
    reached, found = max(candidates, key=lambda candidate: candidate[0])
    kept: list[str] = []
    losses: dict[str, float] = {}
    if reached < GOAL:
        for layer in progress(layers, unit="layer", desc="int8: loss of each layer", leave=False):
            losses[layer] = 1 - cosine([layer], found, 16)
    sizes = {node.name: graph.constants[node.inputs[1]].size for node in graph.nodes if node.name in layers}
    order = sorted(losses, key=losses.__getitem__, reverse=True)
    for layer in progress(order, unit="layer", desc="int8: layers kept in float32", leave=False):
        if reached >= GOAL:
            break
        if sum(sizes[name] for name in (*kept, layer)) > MOST_FLOAT * sum(sizes.values()):
            continue
        with_layer = cosine([name for name in layers if name not in (*kept, layer)], found)
        if with_layer > reached:
            kept.append(layer)
            reached = with_layer
    return quantise(graph, [name for name in layers if name not in kept], found), kept


def ranges(graph: Graph, layers: Sequence[str], images: np.ndarray, tail: float) -> Ranges:
    """Return the ranges of the inputs of layers of a float32 graph, by the inputs' names: means over batches of 8.

    `images` are faces, float32 (n, 3, 112, 112); `tail` is the share of values at either end that may lie outside.
    """
    nodes = graph.by_name()
    wanted = list(dict.fromkeys(nodes[name].inputs[0] for name in layers))
    inner = [name for name in wanted if name != INPUT]
    session = _session(graph, inner)
    ends: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
    for start in range(0, len(images), 8):
        batch = images[start : start + 8]
        for name, value in zip([graph.output, *inner, INPUT], [*session.run(None, {INPUT: batch}), batch]):
            if name in ends:
                rank = int(tail * value.size)
                parted = np.partition(value.reshape(-1), [rank, value.size - 1 - rank])
                ends[name].append((parted[rank], parted[value.size - 1 - rank]))
    means = {name: np.mean(pairs, axis=0) for name, pairs in ends.items()}
    return {name: (low, high) for name, (low, high) in means.items()}


def _session(graph: Graph, extra_outputs: Sequence[str] = ()) -> Any:
    onnxruntime = import_package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = usable_cores(), 3
    model = graph.to_onnx(opset=OPSET, ir_version=IR_VERSION, extra_outputs=extra_outputs)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _embed(graph: Graph, images: np.ndarray) -> np.ndarray:
    session = _session(graph)
    return np.concatenate([session.run(None, {INPUT: images[at : at + 16]})[0] for at in range(0, len(images), 16)])


def quantise(graph: Graph, layers: Iterable[str], found: Ranges) -> Graph:
    """Return a copy of a float32 graph with `layers` quantised by QuantizeLinear and DequantizeLinear at their inputs.

    Weights are int8 with a scale for each output channel and zero at zero; the inputs of layers are uint8 with one
    scale and zero point, from their ranges `found` [Jacob et al., arXiv 1712.05877, section 2]. Biases and outputs stay
    float32.
    """
    graph, chosen = graph.copy(), set(layers)
    axes = graph.layers()
    on_bytes: dict[str, str] = {}

    def activation(name: str) -> list[Node]:
        """Return two nodes that round `name` to values of a byte; none where an earlier layer has them."""
        if name in on_bytes:
            return []
        low, high = min(found[name][0], 0.0), max(found[name][1], 0.0)
        scale = np.float32(max(high - low, 1e-6) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        graph.constants.update({f"{name}_scale": np.asarray(scale), f"{name}_zero": np.asarray(zero)})
        parameters = [f"{name}_scale", f"{name}_zero"]
        on_bytes[name] = f"{name}_dequantized"
        return [
            Node("QuantizeLinear", f"{name}_quantized", [name, *parameters]),
            Node("DequantizeLinear", on_bytes[name], [f"{name}_quantized", *parameters]),
        ]

    def rule(node: Node) -> Optional[list[Node]]:
        if node.name not in chosen:
            return None
        nodes, (x, weight, *bias) = activation(node.inputs[0]), node.inputs
        axis = axes[node.name]
        inside, scale = _weight_bytes(graph.constants[weight], axis)
        names = [f"{node.name}_weight_bytes", f"{node.name}_weight_scale"]
        graph.constants.update(zip(names, (inside, scale)))
        nodes.append(Node("DequantizeLinear", f"{node.name}_weight_float", names, {"axis": axis}))
        return [*nodes, Node(node.op, node.name, [on_bytes[x], nodes[-1].name, *bias], node.attrs)]

    graph.rewrite(rule)
    return graph


def _weight_bytes(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights as int8 (-127..127), and a scale for each output channel, along `axis` (float32)."""
    others = tuple(one for one in range(weight.ndim) if one != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)
    scale = np.where(scale == 0, np.float32(1), scale)
    return np.rint(weight / scale).astype(np.int8), scale.reshape(-1)
