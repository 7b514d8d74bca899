"""Which channels of a graph belong together, so that they can be removed only together."""

from __future__ import annotations

import ast
import json
import typing

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import output_shapes

_SAME = {"_copy", "identity", "BlockGrad", "Dropout", "Cast", "Activation", "hard_sigmoid", "Pooling", "BatchNorm"}
_SAME |= {"LeakyReLU", *(f"_{name}_scalar" for name in ("plus", "minus", "mul", "div", "maximum"))}
_PAIRED = {f"{kind}_{name}" for kind in ("elemwise", "broadcast") for name in ("add", "sub", "mul")}


class Use(typing.NamedTuple):
    """An axis of a parameter that channels run along.

    Attributes
    ----------
    axis
        Which one.
    units
        Unit of each place on it, int (length of the axis,).
    gives
        Whether these are the channels that the operator gives, and not those that it takes.
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
    nodes : list of dict
        As in MXNet's JSON.
    uses : dict of str to list of Use
        By name of the parameter.
    of_node : dict of str to array
        Unit of each channel that a node gives, by name; None for parameters.
    fixed : set of int
        Units that cannot be removed.
    """

    def __init__(self, symbol: mx.sym.Symbol):
        self.graph = json.loads(symbol.tojson())
        self.nodes = self.graph["nodes"]
        self._shapes = output_shapes(symbol, (1, *IMAGE_SHAPE))
        self._parents: list[int] = []
        self._fixed: list[int] = []
        self._found: dict[str, np.ndarray | None] = {}
        self._uses: dict[str, list] = {}
        for node in self.nodes:
            self._found[node["name"]] = self._of(node)
        for source, *_ in self.graph["heads"]:
            self._fix(self._found[self.nodes[source]["name"]])
        roots = np.array([self._root(unit) for unit in range(len(self._parents))], np.int64)
        self.of_node = {name: None if units is None else roots[units] for name, units in self._found.items()}
        self.uses = {name: [use._replace(units=roots[use.units]) for use in uses] for name, uses in self._uses.items()}
        self.fixed = {int(roots[unit]) for unit in self._fixed}

    def _of(self, node):
        """Units of the channels that a node gives."""
        op, attrs = node["op"], node.get("attrs", {})
        sources = [self.nodes[source]["name"] for source, *_ in node["inputs"]]
        given = [self._found[source] for source in sources]
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

    def _convolution(self, sources, taken, attrs):
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

    def _slice(self, units, attrs):
        end = attrs["end"]
        return units[int(attrs["begin"]) : None if end == "None" else int(end)]

    def _stop(self, given, shape):
        """Fixes what an operator takes, so that what it gives is fixed too."""
        for units in given:
            self._fix(units)
        return self._new(shape[1], fixed=True) if len(shape) > 1 else None

    def _fix(self, units):
        self._fixed.extend([] if units is None else map(int, units))

    def _new(self, count, *, fixed=False):
        units = np.arange(len(self._parents), len(self._parents) + count)
        self._parents.extend(map(int, units))
        if fixed:
            self._fix(units)
        return units

    def _use(self, parameter, axis, units, *, gives):
        self._uses.setdefault(parameter, []).append(Use(axis, units, gives))

    def _root(self, unit):
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return unit

    def _join(self, one, other):
        self._parents[self._root(int(other))] = self._root(int(one))
