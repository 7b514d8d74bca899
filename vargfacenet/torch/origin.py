"""Where in a graph numbers stopped being finite."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch

from vargfacenet.errors import TrainingError
from vargfacenet.torch.graph import SymbolModule


def not_finite_error(
    module: SymbolModule, update: int, inputs: Sequence[torch.Tensor], loss: float, gradients: list[str], lr: float
) -> TrainingError:
    """Return the error that says what a loss or gradient that is not finite came from, and what may help.

    Parameters
    ----------
    module : SymbolModule
        With the parameters of before the update.
    update : int
        Which one it was.
    inputs : sequence of Tensor
        Those of the update.
    loss, lr : float
        Its mean loss and its learning rate.
    gradients : list of str
        Parameters whose gradients are not finite, in the order of the graph.
    """
    what = "the loss is finite, its gradient is not," if math.isfinite(loss) else f"the loss is {loss}"
    return TrainingError(
        f"update {update}: {what} at learning rate {lr:g}; first not finite: {_origin(module, inputs, loss, gradients)}. The "
        f"checkpoints are of earlier updates. Try a smaller lr (--set lr={lr / 10:g}), a longer warm-up (warmup_updates), "
        "or clip_gradient=1"
    )


def _origin(module: SymbolModule, inputs: Sequence[torch.Tensor], loss: float, gradients: list[str]) -> str:
    nodes = json.loads(module.text)["nodes"]
    operators = {node["name"]: node["op"] for node in nodes}
    statistics = set(module.statistic_names)
    found: list[str] = []

    def watch(name: str, value: Any) -> None:
        values = value if isinstance(value, tuple) else (value,)
        if found or name in statistics or all(bool(torch.isfinite(one).all()) for one in values):
            return
        kind = operators[name]
        what = "the input" if name in module.inputs else "the parameter" if kind == "null" else "the output of"
        found.append(f"{what} {name}" + (f" ({kind})" if kind != "null" else ""))

    with torch.no_grad():
        module.train().run(inputs, watch)
    if found:
        return found[0]
    for node in reversed(nodes):
        own = [nodes[source]["name"] for source, *_ in node["inputs"] if nodes[source]["name"] in gradients]
        if own:
            return f"on the way back, the gradient of {own[0]} at {node['name']} ({node['op']})"
    if not math.isfinite(loss):
        return "the loss of the classifier outside of the graph"
    return "sums of squares of the gradients, each of which is finite by itself"
