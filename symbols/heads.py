"""Classifier heads: an embedding and a label in, the identity loss of each sample out.

Every head returns a group of two: the loss, (N,), and correctness, (N,), which is 1 where the identity nearest to the
embedding, without margin, is the label, and 0 elsewhere. `vargfacenet.symbols.objective.objective` builds the training
objective from it. The weights of a head are called ``fc7``, as in the lineage, and do not belong to a checkpoint. Other
packages add heads by `vargfacenet.symbols.register_loss`.
"""

import math
from typing import Annotated, Any, NamedTuple

import mxnet as mx

from vargfacenet.options import About
from vargfacenet.symbols.registry import LOSSES, register_loss

COSINE_LIMIT = 1 - 1e-6  # keeps the slope of arccos finite


class Margin(NamedTuple):
    """The combined margin of `margin_softmax`, as it is set."""

    m1: float
    m2: float
    m3: float
    scale: float


def list_losses() -> list[str]:
    """Return the names of the identity losses, those of installed packages included."""
    return LOSSES.names()


@register_loss("margin", sharded=Margin)
def margin_softmax(
    embedding: mx.sym.Symbol,
    label: mx.sym.Symbol,
    *,
    num_identities: int,
    embedding_size: int,
    m1: Annotated[float, About("Factor of the angle to the own identity (SphereFace).", low=0.001, high=4)] = 1.0,
    m2: Annotated[float, About("Angle added to it (ArcFace).", low=0, high=1.6, unit="radians")] = 0.5,
    m3: Annotated[float, About("Cosine subtracted (CosFace).", low=0, high=1)] = 0.0,
    scale: Annotated[float, About("Factor of the cosines.", low=0.001, high=1000)] = 64.0,
) -> mx.sym.Symbol:
    """Softmax over cosines with the combined margin: ``scale * (cos(m1 * theta + m2) - m3)`` for the true identity.

    [Deng et al., arXiv 1801.07698, eq. 4]; ArcFace is m2 = 0.5 alone, CosFace m3 = 0.35 alone, SphereFace m1 alone.
    Beyond pi, where the cosine would rise again, the function continues to fall as SphereFace's does [Liu et al., arXiv
    1704.08063, section 3.2], so that a larger angle always gives a larger loss.

    Parameters
    ----------
    embedding
        (N, embedding_size), of any length; it is normalised here.
    label
        (N,), identities 0 .. num_identities - 1.
    num_identities, embedding_size
        Rows and columns of the classifier.

    Returns
    -------
    mx.sym.Symbol
        The group of loss and correctness, each (N,).
    """
    weight = mx.sym.var("fc7_weight", shape=(num_identities, embedding_size))
    weight = mx.sym.L2Normalization(weight, mode="instance", name="fc7_directions")
    direction = mx.sym.L2Normalization(embedding, mode="instance", name="direction")
    cosines = mx.sym.FullyConnected(
        data=direction, weight=weight, num_hidden=num_identities, no_bias=True, flatten=False, name="fc7"
    )  # (N, num_identities)
    change = margin_change(mx.sym.pick(cosines, label, axis=1), m1=m1, m2=m2, m3=m3)  # (N,)
    hits = mx.sym.one_hot(label, num_identities)  # (N, num_identities)
    logits = scale * (cosines + mx.sym.broadcast_mul(hits, mx.sym.expand_dims(change, axis=1)))
    return loss_and_correct(logits, cosines, label)


@register_loss("softmax", sharded=lambda: None)
def softmax(embedding: mx.sym.Symbol, label: mx.sym.Symbol, *, num_identities: int) -> mx.sym.Symbol:
    """Plain softmax with bias over (N, embedding_size); labels and output are those of `margin_softmax`."""
    logits = mx.sym.FullyConnected(data=embedding, num_hidden=num_identities, flatten=False, name="fc7")
    return loss_and_correct(logits, logits, label)


def margin_change(cosine: Any, *, m1: float, m2: float, m3: float, operators: Any = mx.sym) -> Any:
    """Return what the combined margin adds to the cosine of the true identity: Symbol or NDArray (N,) -> (N,).

    `operators` is ``mx.sym`` or ``mx.nd``, to match `cosine`.
    """
    cosine = operators.clip(cosine, -COSINE_LIMIT, COSINE_LIMIT)
    if (m1, m2) == (1.0, 0.0):
        return cosine - m3 - cosine
    angle = m1 * operators.arccos(cosine) + m2
    turns = operators.floor(angle / math.pi)
    odd = turns - 2 * operators.floor(turns / 2)
    return (1 - 2 * odd) * operators.cos(angle) - 2 * turns - m3 - cosine


def loss_and_correct(logits: mx.sym.Symbol, scores: mx.sym.Symbol, label: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return the cross-entropy of logits (N, C), and whether the label has the largest score: a group of two, each (N,)."""
    # log_softmax subtracts the row's largest logit and never takes the logarithm of a small probability.
    loss = -mx.sym.pick(mx.sym.log_softmax(logits, axis=1), label, axis=1)
    correct = mx.sym.broadcast_equal(mx.sym.argmax(scores, axis=1), label)
    return mx.sym.Group([loss, mx.sym.BlockGrad(correct)])
