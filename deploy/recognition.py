"""Recognition of a graph as a network of this package with its options, by comparing operators."""

import collections
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.deploy.nodes import read_operations
from vargfacenet.errors import SettingError
from vargfacenet.operators import output_shapes
from vargfacenet.symbols import get_symbol, list_networks, network_options
from vargfacenet.symbols.edgeface import SIZES as EDGEFACE_SIZES
from vargfacenet.symbols.ghostfacenet import LAST_CHANNELS, STEM_CHANNELS
from vargfacenet.symbols.ghostfacenet import round_channels as round_to_4
from vargfacenet.symbols.mixfacenet import SIZES as MIXFACENET_SIZES
from vargfacenet.symbols.mixfacenet import round_channels as round_to_8
from vargfacenet.symbols.pocketnet import NODES
from vargfacenet.symbols.pocketnet import SIZES as POCKETNET_SIZES
from vargfacenet.symbols.shufflefacenet import STAGE_CHANNELS as SHUFFLEFACENET_CHANNELS


class Recognised(NamedTuple):
    """The name of a network, and the options with which `vargfacenet.symbols.get_symbol` builds the graph."""

    network: str
    options: dict[str, Any]


def recognise(symbol: mx.sym.Symbol) -> Optional[Recognised]:
    """Return the network that an embedding graph is; None where no network has options that build it.

    ExportError where the graph has an operator that none of the lineage's networks has.
    """
    wanted, _ = function_of(symbol)
    found = []
    for network in list_networks():
        try:
            like = network_like(symbol, network)
            candidate, _ = function_of(get_symbol(network, **like.options))
        except SettingError:
            continue
        if candidate == wanted:
            found.append(like)
    # A deeper network is also a shallow one with other units: its name is the one that needs the fewest options.
    return min(found, key=lambda one: len(one.options), default=None)


def network_like(symbol: mx.sym.Symbol, network: str) -> Recognised:
    """Return a network with the options that the parameters of a graph suggest; SettingError for an unknown network."""
    known = network_options(network)
    guess = _guess(symbol)
    if network in _SIZES:
        shapes = output_shapes(symbol, (1, *IMAGE_SHAPE))
        guess.update(_SIZES[network](collections.defaultdict(lambda: (0,), shapes)))
    options = {
        name: value for name, value in guess.items() if name in known and value not in (None, known[name].default)
    }
    return Recognised(network, options)


def function_of(symbol: mx.sym.Symbol) -> tuple[list[Any], list[str]]:
    """Return the function that a graph computes, without names, and the names of its parameters in order.

    Graphs with equal functions give equal results where their parameters, in order, are equal. Running statistics count
    as parameters.
    """
    operations, output = read_operations(symbol)
    numbers = {operation.name: index for index, operation in enumerate(operations)}
    parameters: dict[str, int] = {}
    function: list[Any] = []
    for one in operations:
        inputs = [
            numbers[name] if name in numbers else ("parameter", parameters.setdefault(name, len(parameters)))
            for name in one.inputs
        ]
        function.append((one.op, sorted(one.attrs.items(), key=str), inputs))
    function.append(numbers[output])
    return function, [name for name in parameters if name != "data"]


def _guess(symbol: mx.sym.Symbol) -> dict[str, Any]:
    """Return options that follow from shapes, of whichever networks have them."""
    shapes = output_shapes(symbol, (1, *IMAGE_SHAPE))
    options: dict[str, Any] = {"use_se": any("_se_conv1" in name for name in shapes)}
    options["embedding_size"] = symbol.infer_shape(data=(1, *IMAGE_SHAPE))[1][0][1]
    kinds = (one.attrs["act_type"] for one in read_operations(symbol)[0] if "act_type" in one.attrs)
    options["activation"] = next(kinds, "prelu")  # the first is never that of squeeze and excitation
    for first, width in (("vargface_head_conv1_weight", 32), ("conv0_weight", 64)):
        if first in shapes:
            options["multiplier"] = shapes[first][0] / width
    if "embed_convx_depthwise_weight" in shapes:
        options["group_size"] = shapes["embed_convx_depthwise_weight"][1]
        options["head_pooling"] = "vargface_head_max_pooling" in shapes
    units: collections.defaultdict[int, int] = collections.defaultdict(int)
    for name in shapes:
        found = re.match(r"(?:vargface_stage_|stage)(\d)_unit_?(\d+)", name)
        if found:
            units[int(found[1])] = max(units[int(found[1])], int(found[2]))
    if units:
        options["units"] = tuple(units[stage] for stage in sorted(units))
    return options


_Shapes = Mapping[str, tuple[int, ...]]


def _ghostfacenet(shapes: _Shapes) -> dict[str, Any]:
    version = 2 if "block3_map_conv_weight" in shapes else 1
    first, last = shapes["stem_weight"][0], shapes["last_conv_weight"][0]
    widths = (1.3, 1.0, first / STEM_CHANNELS)
    fitting = (width for width in widths if round_to_4(LAST_CHANNELS[version] * width) == last)
    stride = 1 if shapes["global_dw_weight"][-1] == 7 else 2
    return {"version": version, "width": next(fitting, None), "stride": stride}


def _mixfacenet(shapes: _Shapes) -> dict[str, Any]:
    sizes = {round_to_8(stem * width): size for size, (stem, _, width, _) in MIXFACENET_SIZES.items()}
    shuffle = "stage1_unit1_shuffle_swap" in shapes
    return {"size": sizes.get(shapes["stem_conv_weight"][0]), "shuffle": shuffle}


def _pocketnet(shapes: _Shapes) -> dict[str, Any]:
    sizes = {NODES * channels: size for size, (channels, _) in POCKETNET_SIZES.items()}
    return {"size": sizes.get(shapes["stem_weight"][0])}


def _shufflefacenet(shapes: _Shapes) -> dict[str, Any]:
    widths = {channels[0] // 2: width for width, channels in SHUFFLEFACENET_CHANNELS.items()}
    return {"width": widths.get(shapes["stage2_unit1_conv1_weight"][0])}


def _edgeface(shapes: _Shapes) -> dict[str, Any]:
    sizes = {channels[0]: size for size, (channels, *_) in EDGEFACE_SIZES.items()}
    return {"size": sizes.get(shapes["stem_conv_weight"][0])}


def _arcface_mbf(shapes: _Shapes) -> dict[str, Any]:
    return {"size": {128: "base", 256: "large"}.get(shapes["conv1_weight"][0])}


# Functions that find options of a network by the shapes of its parameters; None for options that these leave open.
_SIZES = {
    "arcface_mbf": _arcface_mbf,
    "edgeface": _edgeface,
    "ghostfacenet": _ghostfacenet,
    "mixfacenet": _mixfacenet,
    "pocketnet": _pocketnet,
    "shufflefacenet": _shufflefacenet,
}
