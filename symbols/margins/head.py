"""The classifier in the graph with any margin loss."""

from __future__ import annotations

from typing import NamedTuple

import mxnet as mx

from vargfacenet.symbols.heads import loss_and_correct
from vargfacenet.symbols.margins.margin import MarginLoss, Samples
from vargfacenet.symbols.margins.moving_mean import moving_mean

_NORM_EPS = 1e-10  # that of L2Normalization


class CosineHead(NamedTuple):
    """A classifier over cosines with a margin loss, in the graph or in shards.

    Attributes
    ----------
    margin
        How the cosines change.
    scale
        Multiplies the cosines.
    centres
        Centres of each identity, of which the nearest counts [Sub-centre ArcFace, Deng et al., ECCV 2020].
    frozen
        True where the weights are the teacher's and stay as they are.
    follows
        True where the weights are AdaDistill's centres, which follow the teacher's embeddings and no gradient.
    weighted
        As of `vargfacenet.symbols.margins.adadistill.adadistill`, where they follow.
    """

    margin: MarginLoss
    scale: float = 64.0
    centres: int = 1
    frozen: bool = False
    follows: bool = False
    weighted: bool = True

    @property
    def reads_teacher(self) -> bool:
        """True where the loss needs the teacher's embeddings."""
        return self.follows or self.margin.reads_teacher


def margin_head(
    embedding: mx.sym.Symbol,
    label: mx.sym.Symbol,
    head: CosineHead,
    *,
    num_identities: int,
    embedding_size: int,
    draw: mx.sym.Symbol | None = None,
    teacher: mx.sym.Symbol | None = None,
) -> mx.sym.Symbol:
    """Softmax cross-entropy over cosines, with a margin for the own identity.

    Parameters
    ----------
    embedding
        (N, embedding_size), of any length.
    label
        (N,), identities 0 .. num_identities - 1.
    head
        Margin, scale, centres, and whether the classifier stays as it is. The rows of an identity's centres are adjacent.
    num_identities, embedding_size
        Of the classifier ``fc7_weight``, (num_identities * centres, embedding_size).
    draw
        (N,), random numbers as `MarginLoss.draw` gives them, for a loss that draws.
    teacher
        (N, embedding_size), the teacher's embeddings, for a loss that reads them; they get no gradient.

    Returns
    -------
    mx.sym.Symbol
        The group of loss and correctness, each (N,), as in `vargfacenet.symbols.heads`. Auxiliary states are the moving
        means of the loss, ``fc7_NAME``.
    """
    margin, centres = head.margin, head.centres
    still = {"lr_mult": 0.0, "wd_mult": 0.0} if head.frozen else {}
    weight = mx.sym.var("fc7_weight", shape=(num_identities * centres, embedding_size), **still)
    weight = mx.sym.L2Normalization(weight, mode="instance", name="fc7_directions")
    direction = mx.sym.L2Normalization(embedding, mode="instance", name="direction")
    cosines = mx.sym.FullyConnected(
        data=direction, weight=weight, num_hidden=num_identities * centres, no_bias=True, flatten=False, name="fc7"
    )  # (N, num_identities * centres)
    if centres > 1:
        cosines = mx.sym.max(mx.sym.reshape(cosines, shape=(-1, num_identities, centres)), axis=2)
    teacher_cosine = None
    if margin.reads_teacher:
        own = mx.sym.take(mx.sym.reshape(weight, shape=(num_identities, centres * embedding_size)), label)
        own = mx.sym.reshape(own, shape=(-1, centres, embedding_size))  # (N, centres, embedding_size)
        taught = mx.sym.expand_dims(mx.sym.L2Normalization(teacher, mode="instance"), axis=1)
        teacher_cosine = mx.sym.BlockGrad(mx.sym.max(mx.sym.sum(mx.sym.broadcast_mul(own, taught), axis=2), axis=1))
    norm = mx.sym.sqrt(mx.sym.sum(mx.sym.square(embedding), axis=1) + _NORM_EPS)
    samples = Samples(mx.sym.pick(cosines, label, axis=1), norm, draw, teacher_cosine)
    return margin_loss(cosines, label, samples, head, num_identities=num_identities)


def margin_loss(
    cosines: mx.sym.Symbol,
    label: mx.sym.Symbol,
    samples: Samples,
    head: CosineHead,
    *,
    num_identities: int,
) -> mx.sym.Symbol:
    """Return loss and correctness, each (N,), of cosines (N, num_identities); arguments are those of `margin_head`."""
    margin = head.margin
    state = tuple(
        moving_mean(value, f"fc7_{name}", initial=initial, momentum=margin.state_momentum)
        for (name, initial), value in zip(margin.states.items(), margin.observed(samples, operators=mx.sym))
    )
    target = margin.target(samples, state, operators=mx.sym)  # (N,)
    weighed = margin.others(cosines, samples, state, operators=mx.sym)
    hits = mx.sym.one_hot(label, num_identities)  # (N, num_identities)
    change = mx.sym.expand_dims(target - mx.sym.pick(weighed, label, axis=1), axis=1)
    found = loss_and_correct(head.scale * (weighed + mx.sym.broadcast_mul(hits, change)), cosines, label)
    penalty = margin.penalty(samples, operators=mx.sym)
    return found if penalty is None else mx.sym.Group([found[0] + penalty, found[1]])
