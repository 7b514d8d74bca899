"""Training objectives: the identity loss, the distillation loss, or both."""

from __future__ import annotations

import mxnet as mx

from vargfacenet.errors import SettingError


def objective(
    *,
    identity: mx.sym.Symbol | None = None,
    distillation: mx.sym.Symbol | None = None,
    embedding: mx.sym.Symbol | None = None,
    alpha: float = 7.0,
) -> mx.sym.Symbol:
    """``L = L_identity + alpha * L_distillation`` of each sample, with its parts as further outputs.

    Parameters
    ----------
    identity
        Output of a head of `vargfacenet.symbols.heads`.
    distillation
        Output of `vargfacenet.symbols.distillation.distillation`.
    embedding
        (N, embedding_size), to be passed through as an output.
    alpha
        Weight of the distillation loss; 7 is derived from the paper. Without an identity loss it scales the gradient.

    Returns
    -------
    mx.sym.Symbol
        A group of outputs, each (N,): ``loss``, with a gradient of 1 for each sample; ``accuracy``, 1 or 0,
        with an identity loss; ``distillation_loss`` (without alpha) and ``cosine`` with a distillation loss;
        ``identity_loss`` with both; and the ``embedding`` where one is given.

    Raises
    ------
    SettingError
        Where neither loss is given.
    """
    if identity is None and distillation is None:
        raise SettingError("nothing to minimise: give an identity loss, a distillation loss, or both")
    terms, parts = [], {}
    if identity is not None:
        terms.append(identity[0])
        parts["accuracy"] = identity[1]
    if distillation is not None:
        terms.append(alpha * distillation[0])
        parts["distillation_loss"], parts["cosine"] = distillation[0], distillation[1]
    if identity is not None and distillation is not None:
        parts["identity_loss"] = identity[0]
    if embedding is not None:
        parts["embedding"] = embedding
    loss = mx.sym.MakeLoss(sum(terms[1:], terms[0]), name="loss")
    return mx.sym.Group([loss, *(mx.sym.BlockGrad(part, name=name) for name, part in parts.items())])


def open_objective(
    embedding: mx.sym.Symbol,
    *,
    distillation: mx.sym.Symbol | None = None,
    alpha: float = 7.0,
) -> mx.sym.Symbol:
    """The part of the objective that stays in the graph where the identity loss is computed outside it.

    Parameters
    ----------
    embedding
        (N, embedding_size); its gradient comes from the computation of the identity loss.
    distillation, alpha
        As in `objective`.

    Returns
    -------
    mx.sym.Symbol
        A group of outputs: ``embedding``; with a distillation loss, each (N,), ``distillation``, with alpha and a gradient
        of 1 for each sample, and ``distillation_loss`` and ``cosine`` as in `objective`.
    """
    outputs = [mx.sym.identity(embedding, name="embedding")]
    if distillation is not None:
        outputs.append(mx.sym.MakeLoss(alpha * distillation[0], name="distillation"))
        outputs.append(mx.sym.BlockGrad(distillation[0], name="distillation_loss"))
        outputs.append(mx.sym.BlockGrad(distillation[1], name="cosine"))
    return mx.sym.Group(outputs)
