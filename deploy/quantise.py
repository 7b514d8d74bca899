"""INT8: convolutions and products on bytes, scales from calibration, layers that suffer most kept in float."""

import numpy as np

from vargfacenet.deploy.graph import INPUT, Node
from vargfacenet.deploy.probe import cosines
from vargfacenet.deploy.runtime import import_package
from vargfacenet.environment import usable_cores

OPSET, IR_VERSION = 13, 7  # the first with a scale for each channel
LAYERS = ("Conv", "Gemm")
TAILS = (1e-5, 1e-4, 1e-3)  # shares of values at either end that may be cut off, of which the best is taken
GOAL, MOST_FLOAT = 0.99, 0.05


def quantise_measured(graph, images):
    """The graph on bytes, but for the layers that suffer most.

    A third of the images gives the ranges; on the rest it is measured what the cosine to float32 is. Of `TAILS` that is
    taken which leaves the largest; then, one at a time, each layer alone is put on bytes, and as many of those that lose
    most by it stay in float32 as the cosine needs to reach `GOAL`, as long as they hold no more than `MOST_FLOAT` of all
    weights.

    Parameters
    ----------
    graph : Graph
        In float32; it is left alone.
    images : float32 array (n, 3, 112, 112)
        Aligned faces, RGB, 0..255.

    Returns
    -------
    graph : Graph
    kept : list of str
        Layers that stay in float32.
    """
    part = -(-len(images) // 3)
    seen, unseen = images[:part], images[part:]
    layers = [node.name for node in graph.nodes if node.op in LAYERS]
    expected = _embed(graph, unseen)

    def cosine(chosen, found, count=None):
        return cosines(_embed(quantise(graph, chosen, found), unseen[:count]), expected[:count]).mean()

    candidates = [ranges(graph, layers, seen, tail) for tail in TAILS]
    found = max(candidates, key=lambda one: cosine(layers, one))
    kept, reached = [], cosine(layers, found)
    losses = {layer: 1 - cosine([layer], found, 16) for layer in layers} if reached < GOAL else {}
    sizes = {node.name: graph.constants[node.inputs[1]].size for node in graph.nodes if node.op in LAYERS}
    for layer in sorted(losses, key=losses.get, reverse=True):
        if reached >= GOAL:
            break
        if sum(sizes[name] for name in (*kept, layer)) > MOST_FLOAT * sum(sizes.values()):
            continue
        with_layer = cosine([name for name in layers if name not in (*kept, layer)], found)
        if with_layer > reached:
            kept.append(layer)
            reached = with_layer
    return quantise(graph, [name for name in layers if name not in kept], found), kept


def ranges(graph, layers, images, tail):
    """The range of what goes into each layer.

    Parameters
    ----------
    graph : Graph
        In float32.
    layers : list of str
        Names of layers.
    images : float32 array (n, 3, 112, 112)
        Faces to see it on.
    tail : float
        Share of the values at either end that may lie outside.

    Returns
    -------
    dict of str to (float, float)
        By the name of what goes in; means over batches of 8.
    """
    nodes = graph.by_name()
    wanted = list(dict.fromkeys(nodes[name].inputs[0] for name in layers))
    inner = [name for name in wanted if name != INPUT]
    session, ends = _session(graph, inner), {name: [] for name in wanted}
    for start in range(0, len(images), 8):
        batch = images[start : start + 8]
        for name, value in zip([graph.output, *inner, INPUT], [*session.run(None, {INPUT: batch}), batch]):
            if name in ends:
                rank = int(tail * value.size)
                parted = np.partition(value.reshape(-1), [rank, value.size - 1 - rank])
                ends[name].append((parted[rank], parted[value.size - 1 - rank]))
    return {name: tuple(np.mean(pairs, axis=0)) for name, pairs in ends.items()}


def _session(graph, extra_outputs=()):
    onnxruntime = import_package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = usable_cores(), 3
    model = graph.to_onnx(opset=OPSET, ir_version=IR_VERSION, extra_outputs=extra_outputs)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _embed(graph, images):
    session = _session(graph)
    return np.concatenate([session.run(None, {INPUT: images[at : at + 16]})[0] for at in range(0, len(images), 16)])


def quantise(graph, layers, found):
    """The graph with `layers` on bytes: QuantizeLinear and DequantizeLinear around what they multiply.

    Weights are int8, a scale for each output channel, zero at zero; what comes in is uint8 with one scale and zero point
    [Jacob et al., arXiv 1712.05877, section 2]. Biases stay float32, and so does what comes out, up to the next layer.

    Parameters
    ----------
    graph : Graph
        In float32; it is left alone.
    layers : iterable of str
        Names of the layers.
    found : dict of str to (float, float)
        As of `ranges`.
    """
    graph, layers = graph.copy(), set(layers)
    on_bytes = {}

    def activation(name):
        """The two nodes after which `name` holds only what bytes can hold."""
        if name in on_bytes:
            return []
        low, high = min(found[name][0], 0.0), max(found[name][1], 0.0)
        scale = np.float32(max(high - low, 1e-6) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        graph.constants.update({f"{name}_scale": scale, f"{name}_zero": zero})
        parameters = [f"{name}_scale", f"{name}_zero"]
        on_bytes[name] = f"{name}_dequantized"
        return [
            Node("QuantizeLinear", f"{name}_quantized", [name, *parameters]),
            Node("DequantizeLinear", on_bytes[name], [f"{name}_quantized", *parameters]),
        ]

    def rule(node):
        if node.name not in layers:
            return None
        nodes, (x, weight, *bias) = activation(node.inputs[0]), node.inputs
        inside, scale = _weight_bytes(graph.constants[weight])
        names = [f"{node.name}_weight_bytes", f"{node.name}_weight_scale"]
        graph.constants.update(zip(names, (inside, scale)))
        nodes.append(Node("DequantizeLinear", f"{node.name}_weight_float", names, {"axis": 0}))
        return [*nodes, Node(node.op, node.name, [on_bytes[x], nodes[-1].name, *bias], node.attrs)]

    graph.rewrite(rule)
    return graph


def _weight_bytes(weight):
    """Weights as int8 (-127..127) with a scale for each output channel (float32)."""
    rows = weight.reshape(len(weight), -1)
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    scale = np.where(scale == 0, np.float32(1), scale)
    return np.rint(rows / scale[:, None]).astype(np.int8).reshape(weight.shape), scale
