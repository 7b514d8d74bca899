"""Graphs of networks and losses: Symbol in, Symbol out.

>>> from vargfacenet.symbols import get_symbol, list_networks
>>> student = get_symbol("vargfacenet", multiplier=0.5)
"""

import json

import mxnet as mx

from vargfacenet.options import Setting, check_options
from vargfacenet.symbols import distillation_losses, margins  # noqa: F401 - they register their losses
from vargfacenet.symbols.arcface_mbf import arcface_mbf
from vargfacenet.symbols.block import distillation_block, load_block, loss_block, network_block
from vargfacenet.symbols.distillation import list_distillations
from vargfacenet.symbols.edgeface import edgeface
from vargfacenet.symbols.ghostfacenet import ghostfacenet
from vargfacenet.symbols.heads import list_losses
from vargfacenet.symbols.mixfacenet import mixfacenet
from vargfacenet.symbols.mobilefacenet import mobilefacenet, mobilefacenet_y2
from vargfacenet.symbols.pocketnet import pocketnet
from vargfacenet.symbols.registry import NETWORKS, register_distillation, register_loss, register_network
from vargfacenet.symbols.resnet import (
    iresnet18,
    iresnet34,
    iresnet50,
    iresnet100,
    resnet18,
    resnet34,
    resnet50,
    resnet100,
)
from vargfacenet.symbols.shufflefacenet import shufflefacenet
from vargfacenet.symbols.vargfacenet import vargfacenet, vargfacenet_insightface

__all__ = [
    "distillation_block",
    "get_symbol",
    "list_distillations",
    "list_losses",
    "list_networks",
    "load_block",
    "loss_block",
    "network_block",
    "network_options",
    "parameter_order",
    "register_distillation",
    "register_loss",
    "register_network",
]

for _builder in (
    vargfacenet,
    vargfacenet_insightface,
    resnet18,
    resnet34,
    resnet50,
    resnet100,
    mobilefacenet,
    mobilefacenet_y2,
    arcface_mbf,
    iresnet18,
    iresnet34,
    iresnet50,
    iresnet100,
    edgeface,
    ghostfacenet,
    mixfacenet,
    pocketnet,
    shufflefacenet,
):
    register_network(_builder)


def list_networks() -> list[str]:
    """Return the names of the networks that `get_symbol` builds, those of installed packages included."""
    return NETWORKS.names()


def network_options(name: str) -> dict[str, Setting]:
    """Return the declarations of a network's options; SettingError for an unknown name."""
    return NETWORKS[name].options


def get_symbol(name: str, **options: object) -> mx.sym.Symbol:
    """Return the embedding graph of a network.

    Parameters
    ----------
    name
        One of `list_networks`.
    **options
        Options of that network, as values or text (``units="3,7,4"``), checked against its builder.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        For an unknown network or option, naming the nearest one, or a value of the wrong type or out of range.
    """
    return _build(name, options, mx.name.NameManager())


def parameter_order(name: str, **options: object) -> list[str]:
    """Return the names of a network's parameters in the order of its layers.

    Published weights of networks from outside MXNet come in this order: the layers as the builder creates them, and for
    each layer its weight and bias, or scale, shift, running mean and running variance. Arguments and errors are those of
    `get_symbol`.
    """
    names = _RecordedNames()
    symbol = _build(name, options, names)
    nodes = json.loads(symbol.tojson())["nodes"]
    places = {name: place for place, name in enumerate(names.given)}
    layers = sorted((node for node in nodes if node["op"] != "null"), key=lambda node: places[node["name"]])
    sources = (nodes[source] for layer in layers for source, *_ in layer["inputs"])
    found = dict.fromkeys(node["name"] for node in sources if node["op"] == "null")
    return [parameter for parameter in found if parameter != "data"]


class _RecordedNames(mx.name.NameManager):
    """MXNet's names of operators, recorded in the order in which the operators are created."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    def get(self, name: str, hint: str) -> str:
        self.given.append(super().get(name, hint))
        return self.given[-1]


def _build(name: str, options: dict[str, object], names: mx.name.NameManager) -> mx.sym.Symbol:
    checked = check_options(network_options(name), options, owner=name)
    # Names that MXNet gives by itself count from zero in each graph, so that the same graph is the same file.
    with names:
        return NETWORKS[name].build(**checked)
