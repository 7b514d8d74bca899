"""Triplet distillation: a triplet loss whose margin is the teacher's."""

from typing import Annotated

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import About
from vargfacenet.symbols.distillation import NORM_EPS
from vargfacenet.symbols.distillation_losses.pairs import off_diagonal, squared_distances
from vargfacenet.symbols.registry import register_distillation


@register_distillation("triplet", alpha=1.0)
def triplet_distillation(
    student: mx.sym.Symbol,
    teacher: mx.sym.Symbol,
    label: mx.sym.Symbol,
    *,
    margin_low: Annotated[float, About("The smallest margin of a triplet.", low=0, high=4)] = 0.2,
    margin_high: Annotated[float, About("The largest margin of a triplet.", low=0, high=4)] = 0.5,
) -> mx.sym.Symbol:
    """Return ``max(0, D_s(a, p) - D_s(a, n) + m)`` over all triplets of anchor, positive and negative in a batch.

    ``D`` is the squared distance of embeddings at length 1. The margin of a triplet is
    ``m = (high - low) / max g * g + low`` with ``g = max(0, D_t(a, n) - D_t(a, p))`` of the teacher, the maximum being over
    the batch. [Feng et al., TripletDistillation, arXiv 1905.04457, eqs. 3 and 4]

    Parameters
    ----------
    student, teacher
        (N, embedding_size), of any length; the teacher's get no gradient.
    label
        (N,), identities. A batch without two images of one identity gives 0.
    margin_low, margin_high
        The smallest and the largest margin.

    Returns
    -------
    mx.sym.Symbol
        (N,); its mean over the batch is the mean over the triplets.

    Raises
    ------
    SettingError
        Where the smallest margin is above the largest.
    """
    if margin_low > margin_high:
        raise SettingError(f"margin_low={margin_low:g}: expected at most margin_high ({margin_high:g})")
    pairs = off_diagonal(label)  # (N, N)
    alike = mx.sym.broadcast_equal(mx.sym.expand_dims(label, axis=1), mx.sym.expand_dims(label, axis=0))
    positives, negatives = mx.sym.expand_dims(pairs * alike, axis=2), mx.sym.expand_dims(1 - alike, axis=1)
    triplets = mx.sym.broadcast_mul(positives, negatives)  # (N, N, N): anchor, positive, negative
    gap = mx.sym.relu(-_difference(mx.sym.BlockGrad(teacher))) * triplets
    share = mx.sym.broadcast_div(gap, mx.sym.maximum(mx.sym.max(gap), NORM_EPS))
    margin = (margin_high - margin_low) * share + margin_low
    losses = mx.sym.relu(_difference(student) + margin) * triplets
    samples, count = mx.sym.sum(mx.sym.ones_like(label)), mx.sym.maximum(mx.sym.sum(triplets), 1)
    return mx.sym.broadcast_mul(mx.sym.sum(losses, axis=(1, 2)), samples / count)


def _difference(embedding: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return ``D(a, p) - D(a, n)``: (N, N, N)."""
    distances = squared_distances(mx.sym.L2Normalization(embedding, mode="instance", eps=NORM_EPS))
    return mx.sym.broadcast_sub(mx.sym.expand_dims(distances, axis=2), mx.sym.expand_dims(distances, axis=1))
