"""Conversion of any checkpoint of the lineage into a plain embedding network of this package."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

import mxnet as mx

from vargfacenet.deploy.nodes import read_operations
from vargfacenet.deploy.probe import probe_images, relative_error
from vargfacenet.deploy.recognition import Recognised, function_of, network_like, recognise
from vargfacenet.errors import CheckpointError, ExportError
from vargfacenet.eval import Embedder
from vargfacenet.formats.checkpoint import Checkpoint, checkpoint_files, load_checkpoint, save_checkpoint
from vargfacenet.formats.params import load_params
from vargfacenet.symbols import get_symbol

TOLERANCE = 1e-5

_Path = Union[str, pathlib.Path]


class Conversion(NamedTuple):
    """The result of a conversion.

    ``recognised`` is None for a network that is not of this package, which keeps its graph. ``left_out`` are names of
    parameters that are not in the new checkpoint, ``renamed`` maps old names to new ones, and ``error`` is the relative
    error between the embeddings before and after.
    """

    recognised: Optional[Recognised]
    left_out: list[str]
    renamed: dict[str, str]
    error: float


def convert_checkpoint(
    prefix: _Path,
    epoch: int,
    out: _Path,
    *,
    out_epoch: int = 0,
    network: Optional[str] = None,
    output: Optional[str] = None,
) -> Conversion:
    """Rewrite a checkpoint as its embedding graph alone, in float32, with the names of this package.

    Parameters
    ----------
    prefix, epoch
        The checkpoint to read. A classifier and anything else behind ``fc1``, casts to half precision, float16
        parameters and other names are all accepted.
    output
        The node whose output is the embedding, as `load_checkpoint` takes it.
    network
        The network to write, where two are the same function: InsightFace's VarGFaceNet is that of the authors without
        SE and with 1 as the scale of ``fc1``. By default the network stays the same.

    Raises
    ------
    CheckpointError
        Where the checkpoint cannot be read, is not the same function as `network`, or embeds differently afterwards.
        Nothing is written.
    SettingError
        For an unknown network.
    """
    checkpoint = load_checkpoint(prefix, epoch, output=output)
    try:
        recognised = recognise(checkpoint.symbol)
    except ExportError:  # an unknown operator; the graph stays the same
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


def _as_network(
    checkpoint: Checkpoint, recognised: Optional[Recognised], source: str
) -> tuple[Checkpoint, dict[str, str]]:
    """Return the checkpoint with the graph and names of a network, and a dict of old names to new ones that differ."""
    if recognised is None:
        return checkpoint, {}
    symbol = get_symbol(recognised.network, **recognised.options)
    (before, old), (after, new) = function_of(checkpoint.symbol), function_of(symbol)
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


def _check_same(before: Sequence[Any], after: Sequence[Any], recognised: Recognised, source: str) -> None:
    def without_scale(function: Sequence[Any]) -> list[Any]:
        return [
            (op, [pair for pair in attrs if pair[0] != "fix_gamma"], inputs) for op, attrs, inputs in function[:-1]
        ] + list(function[-1:])

    if without_scale(before) != without_scale(after):
        options = " ".join(f"{name}={value}" for name, value in recognised.options.items())
        raise CheckpointError(
            f"{source} is not the same function as {recognised.network} {options}".rstrip() + ": their operators differ"
        )
