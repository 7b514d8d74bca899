"""The channels of a graph that belong together, so that they can be removed only together."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import output_shapes

_SAME = {"_copy", "identity", "BlockGrad", "Dropout", "Cast", "Activation", "hard_sigmoid", "Pooling", "BatchNorm"}
_SAME |= {"LeakyReLU", *(f"_{name}_scalar" for name in ("plus", "minus", "mul", "div", "maximum"))}
_PAIRED = {f"{kind}_{name}" for kind in ("elemwise", "broadcast") for name in ("add", "sub", "mul")}


class Use(NamedTuple):
    """An axis of a parameter that channels run along.

    Attributes
    ----------
    axis
        Its number.
    units
        Unit of each place on it, int (length of the axis,).
    gives
        True for the channels that the operator gives, False for those that it takes.
    """

    axis: int
    units: np.ndarray
    gives: bool


class Channels:
    """The units of a graph: sets of channels that stand or fall together.

    Channels that a sum or product brings together are one unit, and so are all channels of a group of a grouped
    convolution. What an operator that is not known here takes is fixed, as are the image and the output of the graph.

    Parameters
    ----------
    symbol
        An embedding graph.

    Attributes
    ----------
    nodes
        As in MXNet's JSON.
    uses
        By name of the parameter.
    of_node
        Unit of each channel that a node gives, by name; None for parameters.
    fixed
        Units that cannot be removed.
    """

    def __init__(self, symbol: mx.sym.Symbol) -> None:
        self.graph = json.loads(symbol.tojson())
        self.nodes = self.graph["nodes"]
        self._shapes = output_shapes(symbol, (1, *IMAGE_SHAPE))
        self._parents: list[int] = []
        self._fixed: list[int] = []
        self._found: dict[str, np.ndarray | None] = {}
        self._uses: dict[str, list[Use]] = {}
        for node in self.nodes:
            self._found[node["name"]] = self._of(node)
        for source, *_ in self.graph["heads"]:
            self._fix(self._found[self.nodes[source]["name"]])
        roots = np.array([self._root(unit) for unit in range(len(self._parents))], np.int64)
        self.of_node = {name: None if units is None else roots[units] for name, units in self._found.items()}
        self.uses = {name: [use._replace(units=roots[use.units]) for use in uses] for name, uses in self._uses.items()}
        self.fixed = {int(roots[unit]) for unit in self._fixed}

    def _of(self, node: Mapping[str, Any]) -> np.ndarray | None:
        """Return the units of the channels that a node gives."""
        op, attrs = node["op"], node.get("attrs", {})
        sources = [self.nodes[source]["name"] for source, *_ in node["inputs"]]
        given: list[Any] = [self._found[source] for source in sources]
        if op == "null":
            return self._new(IMAGE_SHAPE[0], fixed=True) if node["name"] == "data" else None
        if op == "Convolution" and given[0] is not None:
            return self._convolution(sources, given[0], attrs)
        if op == "FullyConnected" and attrs.get("flatten", "True") in ("True", "1") and given[0] is not None:
            columns = np.repeat(given[0], int(np.prod(self._shapes[sources[0]][2:])))
            out = self._new(int(attrs["num_hidden"]))
            self._use(sources[1], 1, columns, gives=False)
            for parameter in sources[1:]:
                self._use(parameter, 0, out, gives=True)
            return out
        if op in _SAME and given[0] is not None:
            for parameter in sources[1:]:
                if self._shapes[parameter] == (len(given[0]),):
                    self._use(parameter, 0, given[0], gives=True)
            return given[0]
        if op in _PAIRED and all(units is not None for units in given) and len(given[0]) == len(given[1]):
            for one, other in zip(*given):
                self._join(one, other)
            return given[0]
        if op == "Concat" and attrs.get("dim", "1") == "1" and all(units is not None for units in given):
            return np.concatenate(given)
        if op == "slice_axis" and given[0] is not None:
            axis = int(attrs["axis"])
            if axis > 0:
                return given[0] if axis > 1 else self._slice(given[0], attrs)
        if op == "Pad" and given[0] is not None and not any(ast.literal_eval(attrs["pad_width"])[:4]):
            return given[0]
        if op == "Flatten" and given[0] is not None and self._shapes[sources[0]][2:] in ((), (1, 1)):
            return given[0]
        return self._stop(given, self._shapes[node["name"]])

    def _convolution(self, sources: list[str], taken: np.ndarray, attrs: Mapping[str, str]) -> np.ndarray:
        groups, filters = int(attrs.get("num_group", "1")), int(attrs["num_filter"])
        if groups == 1:
            out = self._new(filters)
            self._use(sources[1], 1, taken, gives=False)
        else:
            # Of a group all or nothing; a depth-wise convolution's groups have one channel.
            by_group = taken.reshape((groups, -1))
            for group in by_group:
                for unit in group[1:]:
                    self._join(group[0], unit)
            out = np.repeat(by_group[:, 0], filters // groups)
        for parameter in sources[1:]:
            self._use(parameter, 0, out, gives=True)
        return out

    def _slice(self, units: np.ndarray, attrs: Mapping[str, str]) -> np.ndarray:
        end = attrs["end"]
        return units[int(attrs["begin"]) : None if end == "None" else int(end)]

    def _stop(self, given: list[Any], shape: tuple[int, ...]) -> np.ndarray | None:
        """Fix what an operator takes, so that what it gives is fixed too."""
        for units in given:
            self._fix(units)
        return self._new(shape[1], fixed=True) if len(shape) > 1 else None

    def _fix(self, units: np.ndarray | None) -> None:
        self._fixed.extend([] if units is None else map(int, units))

    def _new(self, count: int, *, fixed: bool = False) -> np.ndarray:
        units = np.arange(len(self._parents), len(self._parents) + count)
        self._parents.extend(map(int, units))
        if fixed:
            self._fix(units)
        return units

    def _use(self, parameter: str, axis: int, units: np.ndarray, *, gives: bool) -> None:
        self._uses.setdefault(parameter, []).append(Use(axis, units, gives))

    def _root(self, unit: int) -> int:
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return unit

    def _join(self, one: int, other: int) -> None:
        self._parents[self._root(int(other))] = self._root(int(one))
