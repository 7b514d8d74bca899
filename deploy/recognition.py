"""Which network of this package a graph is, with which options; graphs are compared operator by operator."""

import collections
import re

from vargfacenet import IMAGE_SHAPE
from vargfacenet.deploy.nodes import read_operations
from vargfacenet.errors import SettingError
from vargfacenet.operators import output_shapes
from vargfacenet.symbols import get_symbol, list_networks, network_options

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
    options = {name: value for name, value in _guess(symbol).items() if name in known and value != known[name][1]}
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
