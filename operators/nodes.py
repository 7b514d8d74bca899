"""Copy the nodes of a graph, one after another, into another graph."""

from __future__ import annotations

import collections
import json
from collections.abc import Sequence
from typing import Any

import mxnet as mx

Node = dict[str, Any]  # as in MXNet's JSON: op, name, attrs, inputs
Entry = list[Any]  # an output of a new node: [node, output, version]; the node is None for a dropped one


def output_shapes(symbol: mx.sym.Symbol, data_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shape of the first output of every node, including parameters, by the name of the node."""
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape_partial(data=data_shape)
    named = zip(internals.list_outputs(), shapes)
    return {name[: -len("_output")] if name.endswith("_output") else name: tuple(shape) for name, shape in named}


class Copy:
    """The old nodes in order, the new nodes so far, and the new node and output of each old one.

    The old nodes are handled in order: each one, at its turn, is placed or dropped.

    Attributes
    ----------
    old
        The old nodes.
    shapes
        Shape of the first output of each old node, by name.
    """

    def __init__(self, symbol: mx.sym.Symbol, data_shape: Sequence[int]) -> None:
        self._graph = json.loads(symbol.tojson())
        self.old: list[Node] = self._graph["nodes"]
        self.shapes = output_shapes(symbol, data_shape)
        self._indices = {node["name"]: index for index, node in enumerate(self.old)}
        self._readers: dict[int, list[Node]] = collections.defaultdict(list)  # by index of the old node that they read
        self._indivisible = {source for source, *_ in self._graph["heads"]}
        for node in self.old:
            for source, output, *_ in node["inputs"]:
                self._readers[source].append(node)
                if output:
                    self._indivisible.add(source)
        self._new: list[Node] = []
        self._places: list[tuple[int, int] | None] = []  # new node and first output of each old node; None: dropped

    def index(self, node: Node) -> int:
        """Return the index of an old node."""
        return self._indices[node["name"]]

    def source(self, node: Node, place: int = 0) -> Node:
        """Return the old node that an input of an old node comes from."""
        return self.old[node["inputs"][place][0]]

    def shape(self, node: Node, place: int = 0) -> tuple[int, ...]:
        """Return the shape of an input of an old node."""
        return self.shapes[self.source(node, place)["name"]]

    def only_reader(self, index: int) -> Node | None:
        """Return the only old node that reads the first output of the old node at `index`; None where there are several.

        A node whose other outputs are read, or which is an output of the graph, has no only reader.
        """
        readers = self._readers[index]
        return readers[0] if len(readers) == 1 and index not in self._indivisible else None

    def is_output(self, index: int) -> bool:
        """Return whether the old node at `index` is an output of the graph, or has more than one output in use."""
        return index in self._indivisible

    @property
    def turn(self) -> int:
        """Index of the old node that is to be placed or dropped next."""
        return len(self._places)

    def inputs(self, node: Node) -> list[Entry]:
        """Return the entries of an old node's inputs."""
        return [self._entry(*entry) for entry in node["inputs"]]

    def _entry(self, source: int, output: int, *rest: int) -> Entry:
        place = self._places[source]
        return [None, output, *rest] if place is None else [place[0], place[1] + output, *rest]

    def add(self, op: str, name: str, inputs: Sequence[Entry], **attrs: str) -> Entry:
        """Add a node that the old graph lacks, and return the entry of its output."""
        self._new.append({"op": op, "name": name, "attrs": attrs, "inputs": inputs})
        return [len(self._new) - 1, 0, 0]

    def place(self, op: str, name: str, inputs: Sequence[Entry], **attrs: str) -> None:
        """Add the new node of the old node whose turn it is."""
        self._places.append((self.add(op, name, inputs, **attrs)[0], 0))

    def place_output(self, node: Node, output: int) -> None:
        """Let the old node whose turn it is be output `output` of the new node of `node`."""
        self._places.append(tuple(self._entry(self.index(node), output)[:2]))

    def drop(self) -> None:
        """Leave out the old node whose turn it is."""
        self._places.append(None)

    def set_shape(self, entry: Entry, shape: Sequence[int]) -> None:
        """State the shape of a parameter; MXNet infers the shapes of operators' outputs."""
        node = self._new[entry[0]]
        if node["op"] == "null":
            node["attrs"]["__shape__"] = str(tuple(shape))

    def symbol(self) -> mx.sym.Symbol:
        """Return the new graph."""
        graph = {
            **self._graph,
            "nodes": self._new,
            "arg_nodes": [index for index, node in enumerate(self._new) if node["op"] == "null"],
            "heads": [self._entry(*head) for head in self._graph["heads"]],
            # MXNet computes these row pointers again when it reads a graph.
            "node_row_ptr": list(range(len(self._new) + 1)),
        }
        return mx.sym.load_json(json.dumps(graph))
