"""Random parameters, for networks of which only the speed or the form matters."""

import json

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import runnable

_Arrays = dict[str, mx.nd.NDArray]
_UNIFORM = (  # ends of names, and the range that their values are drawn from
    ("_act_gamma", 0.2, 0.5),
    ("_gamma", 0.3, 0.6),
    ("_temperature", 0.5, 1.5),
)


def random_parameters(symbol: mx.sym.Symbol) -> tuple[_Arrays, _Arrays]:
    """Return random parameters and running statistics of an embedding graph, by name, as training starts from."""
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, *IMAGE_SHAPE))], for_training=False)
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
    return module.get_params()


def varied_parameters(symbol: mx.sym.Symbol, images: np.ndarray, *, seed: int = 0) -> tuple[_Arrays, _Arrays]:
    """Return parameters and running statistics that keep numbers in proportion as those of a trained network do.

    Parameters are random, and none has the value that training starts from. Running statistics are those of `images`: RGB,
    float32 (n, 3, 112, 112), 0..255.
    """
    shapes, _, states = symbol.infer_shape(data=images.shape)
    random = np.random.RandomState(seed)
    # Shifts that images share bring deep networks with BN into the range in which small errors stay small.
    shift = 0.3 if states else 0.05
    args = {n: _draw(random, n, shape, shift) for n, shape in zip(symbol.list_arguments(), shapes) if n != "data"}
    auxs = {n: mx.nd.ones(shape) for n, shape in zip(symbol.list_auxiliary_states(), states)}
    if not auxs:
        return args, auxs
    graph = json.loads(runnable(symbol, for_training=True, backend="basic").tojson())
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm":
            node["attrs"]["momentum"] = "0"
    # MXNet updates the statistics in the backward pass, which a gradient of the images runs through all layers.
    gradients = {"data": mx.nd.zeros(images.shape)}
    inputs = {**args, "data": mx.nd.array(images)}
    executor = mx.sym.load_json(json.dumps(graph)).bind(mx.cpu(), inputs, gradients, aux_states=auxs)
    [embeddings] = executor.forward(is_train=True)
    executor.backward(mx.nd.ones_like(embeddings))
    mx.nd.waitall()
    return args, auxs


def _draw(random: np.random.RandomState, name: str, shape: tuple[int, ...], shift: float) -> mx.nd.NDArray:
    for end, low, high in _UNIFORM:
        if name.endswith(end):
            return mx.nd.array(random.uniform(low, high, shape))
    deviation = np.sqrt(2 / np.prod(shape[1:])) if name.endswith("_weight") else shift
    return mx.nd.array(random.normal(0, deviation, shape))
