"""A checkpoint of the lineage, of whatever year and with whatever around its embedding, as a plain one of this package."""

import collections

import mxnet as mx

from vargfacenet.deploy.nodes import read_operations
from vargfacenet.deploy.probe import probe_images, relative_error
from vargfacenet.deploy.recognition import network_like, recognise, same_function
from vargfacenet.errors import CheckpointError, ExportError
from vargfacenet.eval import Embedder
from vargfacenet.formats.checkpoint import Checkpoint, checkpoint_files, load_checkpoint, save_checkpoint
from vargfacenet.formats.params import load_params
from vargfacenet.symbols import get_symbol

TOLERANCE = 1e-5

Conversion = collections.namedtuple("Conversion", "recognised left_out renamed error")
Conversion.__doc__ = (
    "What became of a checkpoint: the network (Recognised, or None where it is none of this package and keeps its graph), "
    "names left out, dict of old to new names, and the relative error between the embeddings before and after."
)


def convert_checkpoint(prefix, epoch, out, *, out_epoch=0, network=None, output=None):
    """Writes a checkpoint anew: embedding graph only, float32, names of this package, and nothing else in the file.

    Parameters
    ----------
    prefix, epoch : str or path, int
        The checkpoint to read. A classifier and whatever else lies behind ``fc1``, casts to half precision, float16
        parameters and names that differ from this package's are all taken.
    out, out_epoch : str or path, int
        The checkpoint to write.
    output : str, optional
        The node whose output is the embedding, as of `load_checkpoint`.
    network : str, optional
        The network it must become, where two are the same function: InsightFace's VarGFaceNet is that of the authors
        without SE and with 1 as the scale of ``fc1``. By default it stays what it is.

    Returns
    -------
    Conversion

    Raises
    ------
    CheckpointError
        Where it cannot be read, is not the same function as `network`, or embeds differently afterwards. Nothing is written.
    SettingError
        For an unknown network.
    """
    checkpoint = load_checkpoint(prefix, epoch, output=output)
    try:
        recognised = recognise(checkpoint.symbol)
    except ExportError:  # an operator this package does not know; the graph stays what it is
        recognised = None
    if network is not None:
        recognised = network_like(checkpoint.symbol, network)
    converted, renamed = _as_network(checkpoint, recognised, f"{prefix}-{epoch:04d}")
    images = probe_images(4)
    before, after = (Embedder(*one, batch_size=4).embed_batch(images) for one in (checkpoint, converted))
    error = relative_error(after, before)
    if not error <= TOLERANCE:
        raise CheckpointError(
            f"{prefix}-{epoch:04d} embeds differently as {recognised.network if recognised else 'float32'}: relative error "
            f"{error:.1e}, allowed {TOLERANCE:.0e}; nothing was written"
        )
    kept = {renamed.get(name, name) for part in checkpoint[1:] for name in part}
    saved = {name[4:] for name in load_params(checkpoint_files(prefix, epoch)[1])}
    save_checkpoint(out, out_epoch, *converted)
    return Conversion(recognised, sorted(saved - kept - set(renamed)), renamed, error)


def _as_network(checkpoint, recognised, source):
    """The checkpoint with the graph and names of a network, and a dict of the old names to the new ones that differ."""
    if recognised is None:
        return checkpoint, {}
    symbol = get_symbol(recognised.network, **recognised.options)
    (before, old), (after, new) = same_function(checkpoint.symbol), same_function(symbol)
    _check_same(before, after, recognised, source)
    values = {**checkpoint.args, **checkpoint.auxs}
    named = {name: values[other] for name, other in zip(new, old)}
    before, after = read_operations(checkpoint.symbol)[0], read_operations(symbol)[0]
    for one, other in zip(before, after):
        if one.op == "BatchNorm" and (one.attrs["fix_gamma"] or other.attrs["fix_gamma"]):
            gamma = named[other.inputs[1]]
            if one.attrs["fix_gamma"]:
                named[other.inputs[1]] = mx.nd.ones_like(gamma)
            elif (gamma != 1).sum().asscalar():
                low, high = gamma.min().asscalar(), gamma.max().asscalar()
                raise CheckpointError(
                    f"{source}: {one.name} has a trained scale ({low:.3g} to {high:.3g}), which {recognised.network} fixes "
                    "at 1: they are not the same function"
                )
    states = set(symbol.list_auxiliary_states())
    args = {name: value for name, value in named.items() if name not in states}
    auxs = {name: value for name, value in named.items() if name in states}
    return Checkpoint(symbol, args, auxs), {one: other for one, other in zip(old, new) if one != other}


def _check_same(before, after, recognised, source):
    def without_scale(function):
        return [
            (op, [pair for pair in attrs if pair[0] != "fix_gamma"], inputs) for op, attrs, inputs in function[:-1]
        ] + function[-1:]

    if without_scale(before) != without_scale(after):
        options = " ".join(f"{name}={value}" for name, value in recognised.options.items())
        raise CheckpointError(
            f"{source} is not the same function as {recognised.network} {options}".rstrip() + ": their operators differ"
        )
