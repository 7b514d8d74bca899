"""Where in a graph numbers stopped being finite."""

import contextlib
import json
import os

import numpy as np

from vargfacenet.errors import TrainingError


class NotFinite(TrainingError):
    """An update that was not made, as its loss or a gradient is not finite.

    Attributes
    ----------
    loss : float or None
        The mean loss, where that is not finite.
    gradients : list of str
        Parameters whose gradients are not finite.
    """

    def __init__(self, loss, gradients):
        super().__init__(f"the loss is {loss}, gradients that are not finite: {', '.join(gradients) or 'none'}")
        self.loss, self.gradients = loss, gradients


def find_origin(trainer, batch, fault):
    """What made the first number that is not finite, in words.

    The update is made again as far as it goes, with the graph's inner outputs looked at one by one.

    Parameters
    ----------
    trainer : Trainer
        As it was before the update.
    batch : DataBatch
        That of the update.
    fault : NotFinite
        What came of it.
    """
    parameters = dict(zip(("arg", "aux"), trainer.parameters()))
    inputs = {**dict(zip(trainer.data_names, batch.data)), **dict(zip(trainer.label_names, batch.label))}
    share = len(batch.data[0]) // len(trainer.devices)
    for place, device in enumerate(trainer.devices):
        mine = {name: value[place * share : (place + 1) * share] for name, value in inputs.items()}
        found = _first_in_forward(trainer.symbol, parameters, mine, device)
        if found:
            return found
    if fault.gradients:
        return _last_gradient(trainer.symbol, fault.gradients)
    return "the loss of the classifier outside of the graph"


def _first_in_forward(symbol, parameters, inputs, device):
    """The first output of the graph, input or parameter that is not finite; None where all are."""
    internals = symbol.get_internals()
    shapes = {name: value.shape for name, value in {**parameters["arg"], **inputs}.items()}
    with _without_subgraphs():
        executor = internals.simple_bind(device, grad_req="null", **shapes)
    executor.copy_params_from({**parameters["arg"], **inputs}, parameters["aux"], allow_extra_params=True)
    outputs = executor.forward(is_train=True)
    operators = _operators(symbol)
    statistics = set(symbol.list_auxiliary_states())  # which the same update has written before
    for node, output in zip(internals, outputs):
        if node.name not in statistics and not np.isfinite(output.asnumpy()).all():
            kind = operators[node.name]
            what = "the input" if node.name in inputs else "the parameter" if kind == "null" else "the output of"
            return f"{what} {node.name}" + (f" ({kind})" if kind != "null" else "")
    return None


@contextlib.contextmanager
def _without_subgraphs():
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


def _last_gradient(symbol, parameters):
    """The operator nearest to the loss whose parameters' gradients are not finite."""
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in reversed(nodes):
        own = [nodes[source]["name"] for source, *_ in node["inputs"] if nodes[source]["name"] in parameters]
        if own:
            return f"on the way back, the gradient of {own[0]} at {node['name']} ({node['op']})"
    return f"the gradient of {parameters[-1]}, which is outside of the graph"


def _operators(symbol):
    return {node["name"]: node["op"] for node in json.loads(symbol.tojson())["nodes"]}
