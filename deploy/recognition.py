"""Which network of this package a graph is, with which options; graphs are compared operator by operator."""

import collections
import re

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

Recognised = collections.namedtuple("Recognised", "network options")
Recognised.__doc__ = (
    "Name of a network and the options (dict) with which `vargfacenet.symbols.get_symbol` builds the graph."
)


def recognise(symbol):
    """The network whose graph this is.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        An embedding graph.

    Returns
    -------
    Recognised or None
        None where it is none of `vargfacenet.symbols.list_networks`, whatever their options.

    Raises
    ------
    ExportError
        Where the graph has an operator that none of the lineage's networks has.
    """
    wanted, _ = same_function(symbol)
    found = []
    for network in list_networks():
        try:
            like = network_like(symbol, network)
            candidate, _ = same_function(get_symbol(network, **like.options))
        except SettingError:
            continue
        if candidate == wanted:
            found.append(like)
    # A deeper network is also a shallow one with other units: the name that needs the fewest options is its name.
    return min(found, key=lambda one: len(one.options), default=None)


def network_like(symbol, network):
    """A network with the options that the parameters of a graph suggest; SettingError for an unknown network."""
    known = network_options(network)
    guess = _guess(symbol)
    if network in _SIZES:
        shapes = output_shapes(symbol, (1, *IMAGE_SHAPE))
        guess.update(_SIZES[network](collections.defaultdict(lambda: (0,), shapes)))
    options = {
        name: value for name, value in guess.items() if name in known and value not in (None, known[name].default)
    }
    return Recognised(network, options)


def same_function(symbol):
    """What a graph computes, whatever its names.

    Returns
    -------
    function : list
        Equal for graphs that compute the same of parameters that are equal, one after the other.
    parameters : list of str
        The names of its parameters and running statistics in that order.
    """
    operations, output = read_operations(symbol)
    numbers = {operation.name: index for index, operation in enumerate(operations)}
    parameters = {}
    function = []
    for one in operations:
        inputs = [
            numbers[name] if name in numbers else ("parameter", parameters.setdefault(name, len(parameters)))
            for name in one.inputs
        ]
        function.append((one.op, sorted(one.attrs.items(), key=str), inputs))
    function.append(numbers[output])
    return function, [name for name in parameters if name != "data"]


def _guess(symbol):
    """Options that shapes tell, of whichever network has them."""
    shapes = output_shapes(symbol, (1, *IMAGE_SHAPE))
    options = {"use_se": any("_se_conv1" in name for name in shapes)}
    options["embedding_size"] = symbol.infer_shape(data=(1, *IMAGE_SHAPE))[1][0][1]
    kinds = (one.attrs["act_type"] for one in read_operations(symbol)[0] if "act_type" in one.attrs)
    options["activation"] = next(kinds, "prelu")  # the first is never that of squeeze and excitation
    for first, width in (("vargface_head_conv1_weight", 32), ("conv0_weight", 64)):
        if first in shapes:
            options["multiplier"] = shapes[first][0] / width
    if "embed_convx_depthwise_weight" in shapes:
        options["group_size"] = shapes["embed_convx_depthwise_weight"][1]
        options["head_pooling"] = "vargface_head_max_pooling" in shapes
    units = collections.defaultdict(int)
    for name in shapes:
        found = re.match(r"(?:vargface_stage_|stage)(\d)_unit_?(\d+)", name)
        if found:
            units[int(found[1])] = max(units[int(found[1])], int(found[2]))
    if units:
        options["units"] = tuple(units[stage] for stage in sorted(units))
    return options


def _ghostfacenet(shapes):
    version = 2 if "block3_map_conv_weight" in shapes else 1
    first, last = shapes["stem_weight"][0], shapes["last_conv_weight"][0]
    widths = (1.3, 1.0, first / STEM_CHANNELS)
    fitting = (width for width in widths if round_to_4(LAST_CHANNELS[version] * width) == last)
    stride = 1 if shapes["global_dw_weight"][-1] == 7 else 2
    return {"version": version, "width": next(fitting, None), "stride": stride}


def _mixfacenet(shapes):
    sizes = {round_to_8(stem * width): size for size, (stem, _, width, _) in MIXFACENET_SIZES.items()}
    shuffle = "stage1_unit1_shuffle_swap" in shapes
    return {"size": sizes.get(shapes["stem_conv_weight"][0]), "shuffle": shuffle}


def _pocketnet(shapes):
    sizes = {NODES * channels: size for size, (channels, _) in POCKETNET_SIZES.items()}
    return {"size": sizes.get(shapes["stem_weight"][0])}


def _shufflefacenet(shapes):
    widths = {channels[0] // 2: width for width, channels in SHUFFLEFACENET_CHANNELS.items()}
    return {"width": widths.get(shapes["stage2_unit1_conv1_weight"][0])}


def _edgeface(shapes):
    sizes = {channels[0]: size for size, (channels, *_) in EDGEFACE_SIZES.items()}
    return {"size": sizes.get(shapes["stem_conv_weight"][0])}


def _arcface_mbf(shapes):
    return {"size": {128: "base", 256: "large"}.get(shapes["conv1_weight"][0])}


# By network, the options that its parameters' shapes tell; None for what they do not.
_SIZES = {
    "arcface_mbf": _arcface_mbf,
    "edgeface": _edgeface,
    "ghostfacenet": _ghostfacenet,
    "mixfacenet": _mixfacenet,
    "pocketnet": _pocketnet,
    "shufflefacenet": _shufflefacenet,
}
