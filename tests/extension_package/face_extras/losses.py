"""An identity loss and a distillation loss."""

from typing import Annotated

import mxnet as mx

from vargfacenet.options import About
from vargfacenet.symbols import register_distillation, register_loss


@register_loss
def smoothed_softmax(
    embedding: mx.sym.Symbol,
    label: mx.sym.Symbol,
    *,
    num_identities: int,
    smoothing: Annotated[float, About("Share of the target that all identities have.", low=0, high=0.9)] = 0.1,
    scale: float = 4.0,
) -> mx.sym.Symbol:
    """Softmax with label smoothing [Szegedy et al., arXiv 1512.00567, section 7]."""
    logits = scale * mx.sym.FullyConnected(embedding, num_hidden=num_identities, name="fc7")  # (N, num_identities)
    chances = mx.sym.log_softmax(logits, axis=1)
    own = mx.sym.pick(chances, label, axis=1)
    loss = -(1 - smoothing) * own - smoothing * mx.sym.mean(chances, axis=1)  # (N,)
    correct = mx.sym.broadcast_equal(mx.sym.argmax(logits, axis=1), label)
    return mx.sym.Group([loss, mx.sym.BlockGrad(correct)])


@register_distillation
def huber(student: mx.sym.Symbol, teacher: mx.sym.Symbol, *, width: float = 1.0) -> mx.sym.Symbol:
    """Huber loss between embeddings of length 1."""
    difference = mx.sym.L2Normalization(student) - mx.sym.L2Normalization(teacher)
    return mx.sym.sum(mx.sym.smooth_l1(difference, scalar=1 / width), axis=1)  # (N,)
