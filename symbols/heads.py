"""Classifier heads: an embedding and a label in, the identity loss of each sample out.

Every head gives a group of two: the loss, (N,), and 1 or 0, (N,), for whether the identity nearest to the embedding,
margin aside, is the label. `vargfacenet.symbols.objective.objective` makes of it what a trainer minimises. A head's
weights are called ``fc7``, as in the lineage, and are no part of a checkpoint.
"""

import math

import mxnet as mx

COSINE_LIMIT = 1 - 1e-6  # keeps the slope of arccos finite


def margin_softmax(embedding, label, *, num_identities, embedding_size, m1=1.0, m2=0.5, m3=0.0, scale=64.0):
    """Softmax over cosines with the combined margin: ``scale * (cos(m1 * theta + m2) - m3)`` for the true identity.

    [Deng et al., arXiv 1801.07698, eq. 4]; ArcFace is m2 = 0.5 alone, CosFace m3 = 0.35 alone, SphereFace m1 alone.
    Beyond pi, where the cosine would rise again, it goes on falling as SphereFace's does [Liu et al., arXiv
    1704.08063, section 3.2], so that a larger angle is always a larger loss.

    Parameters
    ----------
    embedding : mx.sym.Symbol
        (N, embedding_size), of any length; it is normalised here.
    label : mx.sym.Symbol
        (N,), identities 0 .. num_identities - 1.
    num_identities, embedding_size : int
        Rows and columns of the classifier.
    m1, m2, m3 : float
        Factor of the angle, angle added (radians), cosine subtracted.
    scale : float
        Multiplies the cosines.

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


def softmax(embedding, label, *, num_identities):
    """Plain softmax with bias over (N, embedding_size); labels and output are those of `margin_softmax`."""
    logits = mx.sym.FullyConnected(data=embedding, num_hidden=num_identities, flatten=False, name="fc7")
    return loss_and_correct(logits, logits, label)


def margin_change(cosine, *, m1, m2, m3, operators=mx.sym):
    """What the combined margin adds to the cosine of the true identity: Symbol or NDArray (N,) -> (N,).

    `operators` is ``mx.sym`` or ``mx.nd``, as `cosine` is.
    """
    cosine = operators.clip(cosine, -COSINE_LIMIT, COSINE_LIMIT)
    if (m1, m2) == (1.0, 0.0):
        return cosine - m3 - cosine
    angle = m1 * operators.arccos(cosine) + m2
    turns = operators.floor(angle / math.pi)
    odd = turns - 2 * operators.floor(turns / 2)
    return (1 - 2 * odd) * operators.cos(angle) - 2 * turns - m3 - cosine


def loss_and_correct(logits, scores, label):
    """Softmax cross-entropy of logits (N, C), and whether the label has the largest score: a group of two, each (N,)."""
    # log_softmax subtracts the row's largest logit and never takes the logarithm of a small probability.
    loss = -mx.sym.pick(mx.sym.log_softmax(logits, axis=1), label, axis=1)
    correct = mx.sym.broadcast_equal(mx.sym.argmax(scores, axis=1), label)
    return mx.sym.Group([loss, mx.sym.BlockGrad(correct)])
