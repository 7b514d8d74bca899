"""The NaN trace of the PyTorch engine: where in a graph numbers stopped being finite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from vargfacenet.torch.graph import SymbolModule


def first_not_finite(module: SymbolModule, inputs: Sequence[torch.Tensor]) -> str | None:
    """Run a graph forward and name the first number that is not finite, in words; None where all are finite.

    Parameters
    ----------
    module
        The graph, with the parameters of before the update.
    inputs
        Those of the update.
    """
    operators = {node["name"]: node["op"] for node in json.loads(module.text)["nodes"]}
    statistics = set(module.statistic_names)  # which the failed update has written already
    found: list[str] = []

    def look(name: str, value: Any) -> None:
        values = value if isinstance(value, tuple) else (value,)
        if found or name in statistics or all(bool(torch.isfinite(one).all()) for one in values):
            return
        if operators[name] != "null":
            found.append(f"the output of {name} ({operators[name]})")
        else:
            found.append(f"the {'input' if name in module.inputs else 'parameter'} {name}")

    with torch.no_grad():
        module.train().run(list(inputs), look)
    return found[0] if found else None
