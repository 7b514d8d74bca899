"""The NaN trace: where in a graph numbers stopped being finite."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet.train.engine import Arrays


def first_not_finite(
    symbol: mx.sym.Symbol, args: Arrays, auxs: Arrays, *, inputs: set[str], device: mx.Context
) -> str | None:
    """Run a graph forward and name the first number that is not finite, in words; None where all are finite.

    Parameters
    ----------
    symbol
        The graph.
    args, auxs
        Its inputs and parameters, and its running statistics.
    inputs
        Names among `args` that are inputs.
    device
        Where to run it.
    """
    internals = symbol.get_internals()
    shapes = {name: value.shape for name, value in args.items()}
    with _without_subgraphs():
        executor = internals.simple_bind(device, grad_req="null", **shapes)
    executor.copy_params_from(args, auxs, allow_extra_params=True)
    outputs = executor.forward(is_train=True)
    operators = {node["name"]: node["op"] for node in _nodes(symbol)}
    statistics = set(symbol.list_auxiliary_states())  # which the failed update has written already
    for node, output in zip(internals, outputs):
        if node.name not in statistics and not np.isfinite(output.asnumpy()).all():
            operator = operators[node.name]
            if operator != "null":
                return f"the output of {node.name} ({operator})"
            return f"the {'input' if node.name in inputs else 'parameter'} {node.name}"
    return None


def last_faulty_gradient(symbol: mx.sym.Symbol, parameters: list[str]) -> str:
    """Name the operator nearest to the loss whose parameters' gradients are not finite, in words."""
    nodes = _nodes(symbol)
    for node in reversed(nodes):
        own = [nodes[source]["name"] for source, *_ in node["inputs"] if nodes[source]["name"] in parameters]
        if own:
            return f"in the backward pass, the gradient of {own[0]} at {node['name']} ({node['op']})"
    return f"the gradient of {parameters[-1]}, which is outside of the graph"


@contextlib.contextmanager
def _without_subgraphs() -> Iterator[None]:
    """Bind operators one by one: MXNet's partitioning loses parameters of basic operators where every output is asked for."""
    name = "MXNET_SUBGRAPH_BACKEND"
    before = os.environ.get(name)
    os.environ[name] = "NONE"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _nodes(symbol: mx.sym.Symbol) -> list[dict[str, Any]]:
    return json.loads(symbol.tojson())["nodes"]
