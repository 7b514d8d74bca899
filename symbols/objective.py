"""What a trainer minimises: the identity loss, the distillation loss, or both."""

import mxnet as mx

from vargfacenet.errors import SettingError


def objective(*, identity=None, distillation=None, embedding=None, alpha=7.0, scaled=False):
    """``L = L_identity + alpha * L_distillation`` of each sample, and its parts to look at.

    Parameters
    ----------
    identity : mx.sym.Symbol, optional
        What a head of `vargfacenet.symbols.heads` gives.
    distillation : mx.sym.Symbol, optional
        What `vargfacenet.symbols.distillation.distillation` gives.
    embedding : mx.sym.Symbol, optional
        (N, embedding_size), to look at.
    alpha : float
        Weight of the distillation loss; 7 by what is known of the paper. Where distillation is alone it scales the step.
    scaled : bool
        Whether the loss is given its gradient by whoever runs the graph, for `vargfacenet.train.precision.LossScale`.

    Returns
    -------
    mx.sym.Symbol
        A group of outputs, each (N,): ``loss``, with a gradient of 1 for each sample unless scaled; ``accuracy`` with an
        identity loss, 1 or 0; ``distillation_loss`` (without alpha) and ``cosine`` with a distillation loss;
        ``identity_loss`` with both; and ``embedding`` where it is given, as it is.

    Raises
    ------
    SettingError
        Where neither is given.
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
    if len(terms) == 2:
        parts["identity_loss"] = identity[0]
    if embedding is not None:
        parts["embedding"] = embedding
    loss = _loss(sum(terms[1:], terms[0]), "loss", scaled)
    return mx.sym.Group([loss, *(mx.sym.BlockGrad(part, name=name) for name, part in parts.items())])


def open_objective(embedding, *, distillation=None, alpha=7.0, scaled=False):
    """What is left of the objective in the graph where the identity loss is computed outside of it.

    Parameters
    ----------
    embedding : mx.sym.Symbol
        (N, embedding_size); whoever computes the identity loss gives its gradient.
    distillation, alpha, scaled
        As in `objective`.

    Returns
    -------
    mx.sym.Symbol
        A group of outputs: ``embedding``; with a distillation loss, each (N,), ``distillation``, with alpha and a gradient
        of 1 for each sample unless scaled, and ``distillation_loss`` and ``cosine`` as in `objective`.
    """
    outputs = [mx.sym.identity(embedding, name="embedding")]
    if distillation is not None:
        outputs.append(_loss(alpha * distillation[0], "distillation", scaled))
        outputs.append(mx.sym.BlockGrad(distillation[0], name="distillation_loss"))
        outputs.append(mx.sym.BlockGrad(distillation[1], name="cosine"))
    return mx.sym.Group(outputs)


def _loss(values, name, scaled):
    return mx.sym.identity(values, name=name) if scaled else mx.sym.MakeLoss(values, name=name)
