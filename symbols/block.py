"""Checkpoints for users of Gluon."""

import mxnet as mx

from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.operators import runnable


def load_block(prefix, epoch, *, ctx=None):
    """A checkpoint as a hybridised Gluon block.

    It runs, and can be trained, on operators whose results and gradients are right (`vargfacenet.operators`); its
    parameters carry the checkpoint's names.

    Parameters
    ----------
    prefix, epoch : str or path, int
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``; any checkpoint of the lineage.
    ctx : mx.Context, optional
        Where its parameters live; the current context by default.

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
