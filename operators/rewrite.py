"""Rewrite published graphs for operators that are correct and fast.

Three of MXNet's operators are not reliable on the CPU: the stock ``LeakyReLU(act_type="prelu")`` has wrong gradients for
some slopes; a ``FullyConnected`` directly after a convolution or BN can receive oneDNN's own memory layout and fail
("IsMKLDNNData"); and the gradient of a ``Concat`` fails where its parts are not whole blocks of channels. The published
graphs consist of these operators, and checkpoints must keep them. Therefore a rewritten graph runs, with the same
parameters under the same names.
"""

from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import basic, native
from vargfacenet.operators.backends import choose_backend, log_backend
from vargfacenet.operators.nodes import Copy

# Rules are tried in this order until one places the node.
_INFERENCE = {
    "native": (
        native.join,
        native.convolution_for_inference,
        native.prelu,
        native.scale,
        native.global_mean,
        native.resize,
        basic.whole_blocks,
        basic.scaled_linear,
        basic.flat_input,
    ),
    "basic": (
        basic.prelu_for_inference,
        basic.whole_blocks,
        basic.scaled_linear,
        basic.flat_input,
        basic.flat_concat,
    ),
    "stock": (basic.flat_input,),
}
_TRAINING = {
    "native": (
        native.convolution,
        native.norm,
        native.join,
        native.prelu,
        native.scale,
        native.global_mean,
        native.resize,
        basic.whole_blocks,
        basic.scaled_linear,
        basic.flat_input,
        basic.flat_concat,
    ),
    "basic": (
        basic.prelu_for_training,
        basic.global_mean,
        basic.whole_blocks,
        basic.scaled_linear,
        basic.flat_input,
        basic.flat_concat,
    ),
    "stock": (basic.flat_input, basic.flat_concat),
}


def runnable(
    symbol: mx.sym.Symbol,
    *,
    for_training: bool = False,
    data_shape: Sequence[int] = (2, *IMAGE_SHAPE),
    device: mx.Context | None = None,
    backend: str | None = None,
) -> mx.sym.Symbol:
    """Return the graph to run instead of a published one.

    Parameters
    ----------
    symbol
        A graph whose input is ``data``; other inputs that are not parameters are kept.
    for_training
        Which of two forms to return. On the basic backend both are correct for both uses. On the native one, the form for
        training normalises by the batch's statistics and updates the running ones at each forward pass, and the form for
        inference has no gradient.
    data_shape
        A shape of ``data`` that the graph accepts, with more than one image. The shapes of parameters follow from it,
        as MXNet cannot infer them backwards through the rewritten form.
    device
        Where the graph will run; by default the CPU.
    backend
        One of `vargfacenet.operators.BACKENDS`; by default that of `choose_backend` for the device.

    Returns
    -------
    mx.sym.Symbol
        Same arguments, auxiliary states, shapes, names of the outputs, and values.

    Raises
    ------
    SettingError, SetupError
        As from `choose_backend`.
    """
    if backend is None:
        backend = choose_backend(device)
        log_backend(backend)
    if backend == "native":
        native.load_library()
    rules = (_TRAINING if for_training else _INFERENCE)[backend]
    copy = Copy(symbol, data_shape)
    unchanged = native.slower_convolutions(copy) if backend == "native" and for_training else set()
    for node in copy.old:
        if node["name"] in unchanged or not any(rule(copy, node) for rule in rules):
            copy.place(node["op"], node["name"], copy.inputs(node), **node.get("attrs", {}))
    return copy.symbol()
