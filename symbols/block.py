"""Networks and losses for users of Gluon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.operators import runnable
from vargfacenet.options import check_options
from vargfacenet.symbols.distillation import distillation
from vargfacenet.symbols.registry import DISTILLATIONS, LOSSES, NETWORKS, Loss


def load_block(prefix: str | os.PathLike[str], epoch: int, *, ctx: mx.Context | None = None) -> mx.gluon.SymbolBlock:
    """Return a checkpoint as a hybridised Gluon block.

    It runs, and can be trained, on operators with correct results and gradients (`vargfacenet.operators`); its parameters
    have the names of the checkpoint.

    Parameters
    ----------
    prefix, epoch
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``; any checkpoint of the lineage.
    ctx
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
    graph = runnable(checkpoint.symbol, backend="basic")
    return _block(graph, [mx.sym.var("data", dtype="float32")], {**checkpoint.args, **checkpoint.auxs}, ctx)


def network_block(
    name: str, *, ctx: mx.Context | None = None, initializer: mx.init.Initializer | None = None, **options: object
) -> mx.gluon.SymbolBlock:
    """Return a network with newly drawn weights as a hybridised Gluon block.

    Gluon's own ``initialize`` draws a SymbolBlock's scales and running statistics like weights, and fails; here they begin
    as in `vargfacenet.train`: scales and variances at 1, shifts and means at 0, slopes where the network wants them.

    Parameters
    ----------
    name, **options
        As of `vargfacenet.symbols.get_symbol`.
    ctx
        Where its parameters live; the current context by default.
    initializer
        Draws the weights; by default that of the trainer (Xavier, gaussian, by fan-out, magnitude 2), which
        ``mx.random.seed`` seeds.

    Returns
    -------
    mx.gluon.SymbolBlock
        As of `load_block`.

    Raises
    ------
    SettingError
        As of `vargfacenet.symbols.get_symbol`.
    """
    with mx.name.NameManager():
        symbol = NETWORKS[name].build(**check_options(NETWORKS[name].options, options, owner=name))
    values = _drawn(symbol, initializer, data=(1, *IMAGE_SHAPE))
    return _block(
        runnable(symbol, for_training=True, backend="basic"), [mx.sym.var("data", dtype="float32")], values, ctx
    )


def loss_block(
    name: str,
    *,
    num_identities: int,
    embedding_size: int,
    ctx: mx.Context | None = None,
    initializer: mx.init.Initializer | None = None,
    **options: object,
) -> mx.gluon.SymbolBlock:
    """Return an identity loss with its classifier, newly drawn, as a hybridised Gluon block.

    Parameters
    ----------
    name
        One of `vargfacenet.symbols.list_losses`.
    num_identities, embedding_size
        Rows and columns of the classifier.
    ctx, initializer
        As of `network_block`.
    **options
        The loss's own options.

    Returns
    -------
    mx.gluon.SymbolBlock
        Embeddings (N, embedding_size), labels (N,), and what else the loss reads, the teacher's embeddings or a drawn margin
        for each sample, (N,), -> the loss of each sample and whether the label is the nearest identity, each (N,).

    Raises
    ------
    SettingError
        For an unknown loss or option, or a value of another type or out of range.
    """
    loss = LOSSES[name]
    sizes = {"num_identities": num_identities, "embedding_size": embedding_size}
    return _loss_block(loss, sizes, check_options(loss.options, options, owner=name), ctx, initializer)


def distillation_block(
    name: str, *, num_identities: int = 0, embedding_size: int, ctx: mx.Context | None = None, **options: object
) -> mx.gluon.SymbolBlock:
    """Return a distillation loss as a hybridised Gluon block; arguments and errors are those of `loss_block`.

    Returns
    -------
    mx.gluon.SymbolBlock
        Embeddings of student and teacher, each (N, embedding_size), and labels (N,) where the loss reads them, -> the loss of
        each sample and the cosine between the two, each (N,).
    """
    loss = DISTILLATIONS[name]
    sizes = {"num_identities": num_identities, "embedding_size": embedding_size}
    return _loss_block(loss, sizes, check_options(loss.options, options, owner=name), ctx, None, distils=True)


def _loss_block(
    loss: Loss,
    sizes: dict[str, int],
    options: dict[str, Any],
    ctx: mx.Context | None,
    initializer: mx.init.Initializer | None,
    *,
    distils: bool = False,
) -> mx.gluon.SymbolBlock:
    inputs = {name: mx.sym.var(name, dtype="float32") for name in loss.inputs}
    with mx.name.NameManager():
        if distils:
            symbol = distillation(**inputs, form=loss.name, options=options, **sizes)
        else:
            symbol = loss(**sizes, options=options, **inputs)
    shapes = {name: (2,) if name in ("label", "draw") else (2, sizes["embedding_size"]) for name in inputs}
    return _block(symbol, list(inputs.values()), _drawn(symbol, initializer, **shapes), ctx)


def _drawn(
    symbol: mx.sym.Symbol, initializer: mx.init.Initializer | None, **inputs: tuple[int, ...]
) -> dict[str, mx.nd.NDArray]:
    """Return newly drawn parameters and running statistics of a graph, by name."""
    initializer = initializer or mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2)
    shapes, _, aux_shapes = symbol.infer_shape(**inputs)
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    attributes = symbol.attr_dict()
    values = {}
    for name, shape in zip(names, [*shapes, *aux_shapes]):
        if name not in inputs:
            values[name] = mx.nd.zeros(shape)
            # By the name and by what the graph says of the parameter, as mx.mod.Module does.
            initializer(mx.init.InitDesc(name, attributes.get(name)), values[name])
    return values


def _block(
    symbol: mx.sym.Symbol, inputs: list[mx.sym.Symbol], values: Mapping[str, mx.nd.NDArray], ctx: mx.Context | None
) -> mx.gluon.SymbolBlock:
    block = mx.gluon.SymbolBlock(symbol, inputs)
    for name, parameter in block.collect_params().items():
        parameter._load_init(values[name], ctx or mx.current_context())
    block.hybridize(static_alloc=True, static_shape=True)
    return block
