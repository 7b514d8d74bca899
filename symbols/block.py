"""Checkpoints as Gluon blocks."""

from __future__ import annotations

import mxnet as mx

from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.files import PathLike
from vargfacenet.operators import runnable


def load_block(prefix: PathLike, epoch: int, *, ctx: mx.Context | None = None) -> mx.gluon.SymbolBlock:
    """Return a checkpoint as a hybridised Gluon block.

    It runs, and can be trained, on operators with correct results and gradients (`vargfacenet.operators`); its parameters
    have the names of the checkpoint.

    Parameters
    ----------
    prefix, epoch
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``; any checkpoint of the lineage.
    ctx
        Where its parameters are stored; by default the current context.

    Returns
    -------
    mx.gluon.SymbolBlock
        (N, 3, 112, 112), RGB, 0..255 -> (N, embedding_size), not normalised.

    Raises
    ------
    CheckpointError
        Where the checkpoint is missing or does not fit its graph.
    """
    checkpoint = load_checkpoint(prefix, epoch)
    block = mx.gluon.SymbolBlock(runnable(checkpoint.symbol, backend="basic"), mx.sym.var("data"))
    ctx = ctx or mx.current_context()
    for name, parameter in block.collect_params().items():
        value = checkpoint.args[name] if name in checkpoint.args else checkpoint.auxs[name]
        parameter._load_init(value, ctx)
    block.hybridize(static_alloc=True, static_shape=True)
    return block
