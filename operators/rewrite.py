"""Graphs that compute what a published graph computes, on operators that can be trusted and are quick.

Three of MXNet's operators cannot be trusted on the CPU: the stock ``LeakyReLU(act_type="prelu")`` gives wrong gradients
for some slopes, a ``FullyConnected`` straight after a convolution or BN can meet oneDNN's own memory layout and fail
("IsMKLDNNData"), and so can the gradient of a ``Concat`` whose parts are not whole blocks of channels. The published
graphs are made of these, and checkpoints must stay so. What runs is therefore a rewrite: the same parameters under the
same names.
"""

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import basic, native
from vargfacenet.operators.backends import choose_backend, log_backend
from vargfacenet.operators.nodes import Copy

# A rule places what the old node whose turn it is becomes, or declines; the first that places it has it.
_INFERENCE = {
    "native": (
        native.join,
        native.convolution_for_inference,
        native.prelu,
        native.scale,
        native.global_mean,
        basic.flat_input,
    ),
    "basic": (basic.prelu_for_inference, basic.flat_input, basic.flat_concat),
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
        basic.flat_input,
        basic.flat_concat,
    ),
    "basic": (basic.prelu_for_training, basic.global_mean, basic.flat_input, basic.flat_concat),
    "stock": (basic.flat_input, basic.flat_concat),
}


def runnable(symbol, *, for_training=False, data_shape=(2, *IMAGE_SHAPE), device=None, backend=None):
    """The graph to run in the place of a published one.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        A graph whose input is ``data``; other inputs that are no parameters are let be.
    for_training : bool
        Which of two forms to take. On the basic backend both are right for both uses. On the native one, that for
        training normalises by the batch's statistics and moves the running ones at each forward pass, and that for
        inference has no gradient.
    data_shape : tuple of int
        A shape of ``data`` that the graph accepts, of more than one image. Shapes of parameters follow from it:
        MXNet cannot infer them backwards through the rewritten form.
    device : mx.Context, optional
        Where the graph will run; the CPU by default.
    backend : str, optional
        One of `vargfacenet.operators.BACKENDS`; by default what `choose_backend` says for the device.

    Returns
    -------
    mx.sym.Symbol
        Same arguments, auxiliary states, shapes, names of the outputs, and values.

    Raises
    ------
    SettingError, SetupError
        As `choose_backend`.
    """
    if backend is None:
        backend = choose_backend(device)
        log_backend(backend)
    if backend == "native":
        native.load_library()
    rules = (_TRAINING if for_training else _INFERENCE)[backend]
    copy = Copy(symbol, data_shape)
    for node in copy.old:
        if not any(rule(copy, node) for rule in rules):
            copy.place(node["op"], node["name"], copy.inputs(node), **node.get("attrs", {}))
    return copy.symbol()
