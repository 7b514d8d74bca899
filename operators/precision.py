"""Graphs that compute in half precision, with parameters, running statistics and results in single precision."""

from collections.abc import Sequence

import mxnet as mx

from vargfacenet.operators.nodes import Copy, Entry

_FLOAT32 = "0"  # MXNet's number of the type
_COMPUTES = ("Convolution", "FullyConnected")  # operators that gain from half precision


def in_half_precision(symbol: mx.sym.Symbol, *, data_shape: Sequence[int], dtype: str = "float16") -> mx.sym.Symbol:
    """Return the graph that computes the same in half precision, from its first convolution on.

    Parameters keep their names, shapes and float32, as do BN's running statistics and scales; other parameters are rounded
    at each pass, and their gradients are float32. [Micikevicius et al., arXiv 1710.03740, section 3.1]

    Parameters
    ----------
    symbol
        A graph with one input, ``data``, as `vargfacenet.operators.runnable` returns it on the basic backend.
    data_shape
        A shape of ``data`` that it accepts.
    dtype
        Type of the computations.

    Returns
    -------
    mx.sym.Symbol
        Same arguments, auxiliary states and shapes; outputs are float32.
    """
    copy = Copy(symbol, data_shape)
    narrow: set[int] = set()  # old nodes whose outputs are in half precision
    casts: dict[int, Entry] = {}  # casts of the other outputs, by old node

    def narrowed(source: int, entry: Entry) -> Entry:
        if source in narrow:
            return entry
        if source not in casts:
            casts[source] = copy.add("Cast", f"{copy.old[source]['name']}_{dtype}", [entry], dtype=dtype)
        return casts[source]

    for turn, node in enumerate(copy.old):
        inputs, sources = copy.inputs(node), [source for source, *_ in node["inputs"]]
        attrs = node.get("attrs", {})
        if node["op"] == "null":
            attrs = {**attrs, "__dtype__": _FLOAT32}  # MXNet does not infer types backwards through a Cast
        if node["op"] == "BatchNorm":
            if sources[0] in narrow:
                narrow.add(turn)
        elif node["op"] in _COMPUTES or any(source in narrow for source in sources):
            inputs = [narrowed(source, entry) for source, entry in zip(sources, inputs)]
            narrow.add(turn)
        if turn in narrow and copy.is_output(turn):
            # The output of the graph keeps its name.
            entry = copy.add(node["op"], f"{node['name']}_{dtype}", inputs, **attrs)
            copy.place("Cast", node["name"], [entry], dtype="float32")
            narrow.discard(turn)
        else:
            copy.place(node["op"], node["name"], inputs, **attrs)
    return copy.symbol()
