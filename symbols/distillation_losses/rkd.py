"""Relational knowledge distillation: distances and angles within a batch."""

from typing import Annotated

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import About
from vargfacenet.symbols.distillation import NORM_EPS
from vargfacenet.symbols.distillation_losses.pairs import off_diagonal, squared_distances
from vargfacenet.symbols.registry import register_distillation

_LEAST_SQUARE = 1e-12


@register_distillation("rkd", alpha=1.0)
def relational_loss(
    student: mx.sym.Symbol,
    teacher: mx.sym.Symbol,
    *,
    distance_weight: Annotated[float, About("Weight of the distances of pairs.", low=0, high=1e6)] = 1.0,
    angle_weight: Annotated[float, About("Weight of the angles of triplets.", low=0, high=1e6)] = 2.0,
) -> mx.sym.Symbol:
    """Return Huber losses between student's and teacher's distances of pairs and angles of triplets.

    Embeddings are taken at length 1. Distances are divided by their mean over the batch. The mean over the batch of
    what is returned is the mean over all N^2 pairs and N^3 triplets, those of a sample with itself included, as in the
    authors' code. It takes memory for N^3 numbers and for N^2 embeddings, N being the images of a device.
    [Park et al., RKD, CVPR 2019, arXiv 1904.05068, eqs. 4 to 9]

    Parameters
    ----------
    student, teacher
        (N, embedding_size), of any length; the teacher's get no gradient.
    distance_weight, angle_weight
        Of the two parts; 1 and 2 in the paper's metric learning, 25 and 50 where they stand alone.

    Returns
    -------
    mx.sym.Symbol
        (N,).

    Raises
    ------
    SettingError
        Where both weights are 0.
    """
    if not distance_weight and not angle_weight:
        raise SettingError("distance_weight=0 angle_weight=0: nothing is left of rkd; give one of them above 0")
    s, t = _l2_normalize(student), _l2_normalize(mx.sym.BlockGrad(teacher))
    pairs = off_diagonal(student)  # (N, N)
    parts = []
    if distance_weight:
        error = mx.sym.smooth_l1(_relative_distances(s, pairs) - _relative_distances(t, pairs), scalar=1.0)
        parts.append(distance_weight * mx.sym.mean(error, axis=1))
    if angle_weight:
        error = mx.sym.smooth_l1(_angle_cosines(s, pairs) - _angle_cosines(t, pairs), scalar=1.0)
        parts.append(angle_weight * mx.sym.mean(error, axis=(1, 2)))
    return sum(parts[1:], parts[0])


def _relative_distances(embedding: mx.sym.Symbol, pairs: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return distances divided by their mean: (N, N)."""
    distances = pairs * mx.sym.sqrt(mx.sym.maximum(squared_distances(embedding), _LEAST_SQUARE))
    count = mx.sym.maximum(mx.sym.sum(pairs), 1)  # a batch of one has no pair
    mean = mx.sym.maximum(mx.sym.sum(distances) / count, _LEAST_SQUARE)
    return mx.sym.broadcast_div(distances, mean)


def _angle_cosines(embedding: mx.sym.Symbol, pairs: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return the cosine of the angle at the first sample of each triplet: (N, N, N); 0 where two are one sample."""
    edges = mx.sym.broadcast_sub(mx.sym.expand_dims(embedding, axis=0), mx.sym.expand_dims(embedding, axis=1))
    lengths = mx.sym.sqrt(mx.sym.sum(mx.sym.square(edges), axis=2) + NORM_EPS)  # (N, N)
    edges = mx.sym.broadcast_mul(edges, mx.sym.expand_dims(pairs / lengths, axis=2))  # (N, N, embedding_size)
    return mx.sym.batch_dot(edges, edges, transpose_b=True)


def _l2_normalize(embedding: mx.sym.Symbol) -> mx.sym.Symbol:
    return mx.sym.L2Normalization(embedding, mode="instance", eps=NORM_EPS)
