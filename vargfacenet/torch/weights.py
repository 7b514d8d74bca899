"""Initial weights of a graph that is trained in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mxnet as mx

from vargfacenet.torch.checkpoint import module_of
from vargfacenet.torch.graph import SymbolModule
from vargfacenet.train.engine import Arrays


def drawn_module(symbol: mx.sym.Symbol, inputs: Mapping[str, Sequence[int]]) -> SymbolModule:
    """Return the graph with weights drawn as MXNet's Module draws them: the same ones, from the same seed."""
    args, _, auxs = symbol.infer_shape(**{name: tuple(shape) for name, shape in inputs.items()})
    draw, attributes = mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2), symbol.attr_dict()
    values: Arrays = {}
    for names, shapes in ((symbol.list_arguments(), args), (symbol.list_auxiliary_states(), auxs)):
        for name, shape in sorted(zip(names, shapes)):
            if name not in inputs:
                values[name] = mx.nd.zeros(shape)
                draw(mx.init.InitDesc(name, attributes.get(name)), values[name])
    return module_of(symbol, values, tuple(inputs))
