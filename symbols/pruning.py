"""Filters removed from a graph, with everything that reads or writes their channels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet.errors import SettingError
from vargfacenet.symbols.channels import Channels

Arrays = dict[str, mx.nd.NDArray]  # by name
_LEAST = 8  # of each operator's channels an eighth stays


class Pruned(NamedTuple):
    """A pruned network.

    Attributes
    ----------
    symbol, args, auxs
        Graph, parameters and running statistics.
    removed
        Filters removed.
    filters
        Filters before, without those that cannot be removed.
    """

    symbol: mx.sym.Symbol
    args: Arrays
    auxs: Arrays
    removed: int
    filters: int


def taylor_scores(
    channels: Channels, args: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return the importance of each unit by the gradients of one batch: ``(sum of gradient * parameter)^2``.

    The sum is over all parameters that give the unit's channels. Where a unit is not used it is 0.
    [Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, eq. 8]

    Parameters
    ----------
    channels
        Of the graph.
    args, gradients
        Arrays (NumPy) by name of parameter.
    """
    size = 1 + max(int(use.units.max()) for uses in channels.uses.values() for use in uses)
    sums = np.zeros(size)
    for name, uses in channels.uses.items():
        for use in uses:
            if use.gives and name in gradients:
                products = gradients[name].astype(np.float64) * args[name]
                rows = products.sum(axis=tuple(axis for axis in range(products.ndim) if axis != use.axis))
                np.add.at(sums, use.units, rows)
    return sums**2


def filters_of(channels: Channels) -> dict[int, int]:
    """Return the units that can be removed, and the filters of convolutions that each has."""
    counts: dict[int, int] = {}
    for name, uses in channels.uses.items():
        for use in uses:
            if use.gives and name.endswith("_weight"):
                for unit in use.units:
                    if int(unit) not in channels.fixed:
                        counts[int(unit)] = counts.get(int(unit), 0) + 1
    return counts


def least_important(channels: Channels, scores: np.ndarray, share: float) -> set[int]:
    """Return the units to remove: those of the least score for each filter, to a share of the filters.

    Of the channels of each operator an eighth stays, and at least one.

    Raises
    ------
    SettingError
        Where the graph has no filter that can be removed.
    """
    counts = filters_of(channels)
    if not counts:
        raise SettingError(
            "this network has no filters that can be removed: its channels are all fixed by other operators"
        )
    wanted, removed = share * sum(counts.values()), 0
    units: set[int] = set()
    tensors = {tuple(found) for found in channels.of_node.values() if found is not None and len(found)}
    left: list[list[Any]] = [[len(found), max(1, len(found) // _LEAST), found] for found in tensors]
    holders: dict[int, list] = {}
    for tensor in left:
        for unit in set(tensor[2]):
            holders.setdefault(int(unit), []).append(tensor)
    for unit in sorted(counts, key=lambda unit: (scores[unit] / counts[unit], unit)):
        if removed >= wanted:
            break
        shares = [(tensor, tensor[2].count(unit)) for tensor in holders[unit]]
        if all(tensor[0] - count >= tensor[1] for tensor, count in shares):
            for tensor, count in shares:
                tensor[0] -= count
            units.add(unit)
            removed += counts[unit]
    return units


def remove_units(channels: Channels, units: set[int], args: Arrays, auxs: Arrays) -> Pruned:
    """Return the network without these units.

    Parameters
    ----------
    channels
        Of the graph.
    units
        Units to remove, none of them fixed.
    args, auxs
        Parameters and running statistics of the graph.
    """
    gone = np.array(sorted(units), np.int64)
    graph = json.loads(json.dumps(channels.graph))
    nodes = graph["nodes"]
    arrays = {name: value.asnumpy() for name, value in {**args, **auxs}.items()}
    for name, uses in channels.uses.items():
        for use in uses:
            kept = np.flatnonzero(~np.isin(use.units, gone))
            arrays[name] = np.take(arrays[name], kept, axis=use.axis)
    for node in nodes:
        attrs, found = node.get("attrs", {}), channels.of_node[node["name"]]
        if node["op"] == "null" and "__shape__" in attrs and node["name"] in arrays:
            attrs["__shape__"] = str(tuple(arrays[node["name"]].shape))
        if found is None or node["op"] == "null":
            continue
        count = int((~np.isin(found, gone)).sum())
        taken = channels.of_node[nodes[node["inputs"][0][0]]["name"]]
        assert taken is not None  # as what the node gives has units
        if node["op"] == "Convolution":
            groups = int(attrs.get("num_group", "1"))
            attrs["num_filter"] = str(count)
            if groups > 1:
                attrs["num_group"] = str(int((~np.isin(taken, gone)).sum()) * groups // len(taken))
        elif node["op"] == "FullyConnected":
            attrs["num_hidden"] = str(count)
        elif node["op"] == "slice_axis" and int(attrs["axis"]) == 1:
            begin = int((~np.isin(taken[: int(attrs["begin"])], gone)).sum())
            attrs["begin"], attrs["end"] = str(begin), str(begin + count)
    counts = filters_of(channels)
    made = {name: mx.nd.array(value) for name, value in arrays.items()}
    return Pruned(
        mx.sym.load_json(json.dumps(graph)),
        {name: made[name] for name in args},
        {name: made[name] for name in auxs},
        sum(counts[unit] for unit in units),
        sum(counts.values()),
    )
