"""A graph's nodes while they are copied, one after another, into those of another graph."""

import collections
import json

import mxnet as mx


def output_shapes(symbol, data_shape):
    """Shape of the first output of every node, parameters included, by the node's name (dict of str to tuple)."""
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape_partial(data=data_shape)
    named = zip(internals.list_outputs(), shapes)
    return {name[: -len("_output")] if name.endswith("_output") else name: tuple(shape) for name, shape in named}


class Copy:
    """The old nodes in order, the new ones so far, and what each old one has become.

    An entry names an output of a new node: [node, output, version]. Each old node is placed or dropped in its turn.

    Attributes
    ----------
    old : list of dict
        Nodes as in MXNet's JSON: op, name, attrs, inputs.
    shapes : dict of str to tuple
        Of each old node's first output, by name.
    """

    def __init__(self, symbol, data_shape):
        self._graph = json.loads(symbol.tojson())
        self.old = self._graph["nodes"]
        self.shapes = output_shapes(symbol, data_shape)
        self._indices = {node["name"]: index for index, node in enumerate(self.old)}
        self._readers = collections.defaultdict(list)  # old index -> old nodes that take its first output
        self._indivisible = {source for source, *_ in self._graph["heads"]}
        for node in self.old:
            for source, output, *_ in node["inputs"]:
                self._readers[source].append(node)
                if output:
                    self._indivisible.add(source)
        self._new = []
        self._places = []  # old index -> new index, None for what was dropped

    def index(self, node):
        """Place of an old node among the old ones."""
        return self._indices[node["name"]]

    def source(self, node, place=0):
        """The old node that an old node's input comes from."""
        return self.old[node["inputs"][place][0]]

    def shape(self, node, place=0):
        """Shape of an old node's input."""
        return self.shapes[self.source(node, place)["name"]]

    def only_reader(self, index):
        """The old node that alone takes the first output of the old node at `index`; None where others do too.

        A node whose other outputs are wanted, or which is an output of the graph, has no only reader.
        """
        readers = self._readers[index]
        return readers[0] if len(readers) == 1 and index not in self._indivisible else None

    def is_output(self, index):
        """Whether the old node at `index` is an output of the graph, or has more outputs in use than one."""
        return index in self._indivisible

    @property
    def turn(self):
        """Index of the old node whose turn it is."""
        return len(self._places)

    def inputs(self, node):
        """Entries of an old node's inputs."""
        return [[self._places[source], *rest] for source, *rest in node["inputs"]]

    def add(self, op, name, inputs, **attrs):
        """Adds a node that the old graph lacks, and gives the entry of its output."""
        self._new.append({"op": op, "name": name, "attrs": attrs, "inputs": inputs})
        return [len(self._new) - 1, 0, 0]

    def place(self, op, name, inputs, **attrs):
        """Adds what the old node whose turn it is has become."""
        self._places.append(self.add(op, name, inputs, **attrs)[0])

    def drop(self):
        """Leaves out the old node whose turn it is."""
        self._places.append(None)

    def set_shape(self, entry, shape):
        """State the shape of a parameter; what an operator gives has the shape that MXNet infers."""
        node = self._new[entry[0]]
        if node["op"] == "null":
            node["attrs"]["__shape__"] = str(tuple(shape))

    def symbol(self):
        """The new graph."""
        graph = {
            **self._graph,
            "nodes": self._new,
            "arg_nodes": [index for index, node in enumerate(self._new) if node["op"] == "null"],
            "heads": [[self._places[source], *rest] for source, *rest in self._graph["heads"]],
            # MXNet counts these row pointers anew when it reads a graph.
            "node_row_ptr": list(range(len(self._new) + 1)),
        }
        return mx.sym.load_json(json.dumps(graph))
