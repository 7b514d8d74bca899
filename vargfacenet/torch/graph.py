"""An MXNet graph as a PyTorch module, read node by node from its JSON.

Nothing here needs MXNet: a graph's text and the shapes of its parameters are enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Union

import torch
from torch import nn

from vargfacenet.errors import CheckpointError
from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.custom import statistics_of
from vargfacenet.torch.operators import OPERATORS, Constant, Operator

_SEVERAL = frozenset(("SliceChannel", "split"))  # operators that give a tuple
Entry = tuple[int, int]  # a node and which of its outputs
Outputs = Union[torch.Tensor, tuple[torch.Tensor, ...]]


class _Step(NamedTuple):
    """One operator of a graph: what it reads, and the values that nobody reads afterwards."""

    place: int
    operator: Operator
    sources: tuple[Entry, ...]
    places: tuple[int, ...] | None  # of sources, where all of them are single tensors
    last_uses: tuple[int, ...]


class _Autocast(NamedTuple):
    """The context of the first steps, the place of the last of their values, and the steps before and after."""

    make: Callable[[], Any]
    last: int
    before: tuple[_Step, ...]
    after: tuple[_Step, ...]


class SymbolModule(nn.Module):
    """A graph of MXNet's as a module whose parameters and buffers carry the graph's names.

    In training mode BN takes the statistics of the batch and moves the running ones, and dropout is on; see
    `vargfacenet.torch.operators` for how operators equal MXNet's.

    Parameters
    ----------
    text
        The graph's JSON, as ``Symbol.tojson()`` gives it.
    shapes
        Of the parameters and running statistics; of the inputs they are not needed.
    inputs
        The names of those nodes that are given at each call, in the order in which they are given.

    Attributes
    ----------
    text
        As given.
    inputs, output_names
        Names of what `forward` takes and of what it gives.
    parameter_names, statistic_names
        Names of the parameters and of the running statistics, in the order of the graph.
    fixed
        Scales that the graph fixes at 1 (``fix_gamma``). They have no gradient and keep the value that they were given.

    Raises
    ------
    CheckpointError
        For an operator or attribute that is not known here, naming the node, or a parameter without a shape.
    """

    def __init__(self, text: str, shapes: Mapping[str, Sequence[int]], inputs: Sequence[str] = ("data",)) -> None:
        super().__init__()
        self.text, self.inputs = text, tuple(inputs)
        graph = json.loads(text)
        nodes = graph["nodes"]
        self._heads: tuple[Entry, ...] = tuple((head[0], head[1]) for head in graph["heads"])
        self.output_names = tuple(nodes[place]["name"] for place, _ in self._heads)
        self.node_names = tuple(node["name"] for node in nodes)
        auxiliary, fixed = _kinds_of_parameters(nodes)
        self.fixed = frozenset(fixed)
        self._autocast: _Autocast | None = None
        self._given: dict[int, str] = {}  # places of inputs
        self._held: dict[int, str] = {}  # places of parameters and running statistics
        for place, node in enumerate(nodes):
            if node["op"] != "null":
                continue
            name = node["name"]
            if name in self.inputs:
                self._given[place] = name
                continue
            if name not in shapes:
                raise CheckpointError(f"the graph reads {name!r}, which is neither an input nor a parameter")
            self._held[place] = name
            self._register(name, torch.zeros(tuple(shapes[name])), name in auxiliary)
        self.parameter_names = tuple(dict.fromkeys(name for name in self._held.values() if name not in auxiliary))
        self.statistic_names = tuple(dict.fromkeys(name for name in self._held.values() if name in auxiliary))
        self._steps = self._read_steps(nodes)
        self.reset_parameters()

    def _read_steps(self, nodes: list[dict[str, Any]]) -> tuple[_Step, ...]:
        operators = {place: _operator(node) for place, node in enumerate(nodes) if node["op"] != "null"}
        for place, found in operators.items():
            if isinstance(found, Constant) and place not in self._held:
                self._held[place] = f"constant_{place}"
                self.register_buffer(f"constant_{place}", found.value, persistent=False)
        return _steps(nodes, operators, self._heads)

    def __getstate__(self) -> dict[str, Any]:
        # Functions of nodes cannot be pickled; they are read from the text again. A copy has no autocast context.
        return {**self.__dict__, "_steps": (), "_autocast": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._steps = self._read_steps(json.loads(self.text)["nodes"])

    def extra_repr(self) -> str:
        """Return what ``print(module)`` shows: inputs, outputs, and the number of parameters."""
        count = sum(value.numel() for value in self.parameters())
        return f"{', '.join(self.inputs)} -> {', '.join(self.output_names)}, {count:,} parameters, {len(self._steps)} nodes"

    def _register(self, name: str, value: torch.Tensor, is_auxiliary: bool) -> None:
        if name in self._parameters or name in self._buffers:
            return
        try:
            if is_auxiliary:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value, requires_grad=name not in self.fixed))
        except KeyError as error:
            raise CheckpointError(f"PyTorch has no parameter of the name {name!r}: {error.args[0]}") from error

    def reset_parameters(self) -> None:
        """Draw weights as a run's are drawn: Xavier, gaussian, by fan-out, magnitude 2; scales and slopes as MXNet's."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                if name.endswith("_weight") and parameter.ndim > 1:
                    fan_out = parameter.shape[0] * parameter[0, 0].numel()
                    parameter.normal_(0, (2 / fan_out) ** 0.5)
                elif name.endswith(("_gamma", "_weight")):
                    is_slope = any(node in name for node in ("act", "relu"))
                    parameter.fill_(0.25 if is_slope else 1.0)
                else:
                    parameter.zero_()
            for name in self.statistic_names:
                self._buffers[name].fill_(1.0 if name.endswith("_var") else 0.0)

    def set_autocast(self, make: Callable[[], Any], last: str) -> None:
        """Run the nodes up to the one named `last` in the context that `make` gives; its output is float32 again.

        Raises
        ------
        CheckpointError
            Where there is no such node.
        """
        if last not in self.node_names:
            raise CheckpointError(f"the graph has no node {last!r}")
        place = self.node_names.index(last)
        before = tuple(step for step in self._steps if step.place <= place)
        self._autocast = _Autocast(make, place, before, self._steps[len(before) :])

    def forward(self, data: torch.Tensor, *others: torch.Tensor) -> Outputs:
        """Compute the graph's outputs: one tensor where it has one, else a tuple in the order of `output_names`."""
        return self.run((data, *others))

    def run(self, inputs: Sequence[torch.Tensor], watch: Callable[[str, Any], None] | None = None) -> Outputs:
        """Compute the outputs; `watch` is called with the name and the value of each node."""
        if len(inputs) != len(self.inputs):
            raise TypeError(f"expected {len(self.inputs)} inputs ({', '.join(self.inputs)}), got {len(inputs)}")
        given = dict(zip(self.inputs, inputs))
        for name, value in given.items():
            if not value.is_floating_point():
                raise TypeError(f"input {name!r} is {value.dtype}: expected a floating type; {name}.float() is one")
        values: list[Any] = [None] * len(self.node_names)
        for place, name in self._given.items():
            values[place] = given[name]
        for place, name in self._held.items():
            values[place] = getattr(self, name)  # also where a parametrization or a replica has put another tensor
        if watch is not None:
            for place in sorted({*self._given, *self._held}):
                watch(self.node_names[place], values[place])
        if self._autocast is None:
            self._compute(values, self._steps, watch)
        else:
            make, last, before, after = self._autocast
            with make():
                self._compute(values, before, watch)
            values[last] = values[last].float()
            self._compute(values, after, watch)
        outputs = tuple(_pick(values, head) for head in self._heads)
        return outputs[0] if len(outputs) == 1 else outputs

    def _compute(self, values: list[Any], steps: Sequence[_Step], watch: Callable[[str, Any], None] | None) -> None:
        training = self.training
        for place, operator, sources, places, last_uses in steps:
            if places is not None:
                found = operator(training, *[values[source] for source in places])
            else:
                found = operator(training, *[_pick(values, entry) for entry in sources])
            values[place] = found
            if watch is not None:
                watch(self.node_names[place], found)
            for source in last_uses:
                values[source] = None


def _pick(values: list[Any], entry: Entry) -> Any:
    value = values[entry[0]]
    return value[entry[1]] if isinstance(value, tuple) else value


def _kinds_of_parameters(nodes: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Return the names of running statistics, and those of scales that BN fixes at 1."""
    auxiliary: set[str] = set()
    fixed: set[str] = set()
    for node in nodes:
        names = [nodes[source]["name"] for source, *_ in node["inputs"]]
        auxiliary.update(names[place] for place in _statistics(node))
        if node["op"] == "BatchNorm" and Attributes(node).flag("fix_gamma", True):
            fixed.add(names[1])
    return auxiliary, fixed


def _statistics(node: Mapping[str, Any]) -> tuple[int, ...]:
    """Return which inputs of a node are running statistics."""
    if node["op"] == "Custom":
        return statistics_of(node)
    return (3, 4) if node["op"] == "BatchNorm" else ()


def _steps(nodes: list[dict[str, Any]], operators: Mapping[int, Any], heads: tuple[Entry, ...]) -> tuple[_Step, ...]:
    last = {source: place for place, node in enumerate(nodes) for source, *_ in node["inputs"]}
    kept = {place for place, _ in heads}
    steps = []
    for place, found in operators.items():
        if isinstance(found, Constant):
            continue
        sources = tuple((entry[0], entry[1]) for entry in nodes[place]["inputs"])
        freed = tuple({source for source, _ in sources if last[source] == place and source not in kept})
        single = all(nodes[source]["op"] not in _SEVERAL for source, _ in sources)
        steps.append(_Step(place, found, sources, tuple(source for source, _ in sources) if single else None, freed))
    return tuple(steps)


def _operator(node: dict[str, Any]) -> Operator | Constant:
    if node["op"] not in OPERATORS:
        raise CheckpointError(
            f"node {node['name']!r} is a {node['op']}, an operator that the PyTorch engine does not know; known are "
            f"{', '.join(sorted(OPERATORS))}"
        )
    attributes = Attributes(node)
    found = OPERATORS[node["op"]](attributes)
    attributes.check_all_read()
    return found
