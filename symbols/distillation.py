"""Losses that draw a student's embedding towards its teacher's by direction only.

Both embeddings are scaled to length 1 first. An embedding of length 0 stays 0: its cosine with any other is 0, and its
gradients are finite (`NORM_EPS` bounds them).
"""

from collections.abc import Callable

import mxnet as mx

from vargfacenet.errors import SettingError

NORM_EPS = 1e-10  # added to squared lengths


def angular_loss(student: mx.sym.Symbol, teacher: mx.sym.Symbol) -> mx.sym.Symbol:
    """Angular distillation loss ``|| t / |t| - s / |s| ||^2``, which equals ``2 * (1 - cos)`` except at length 0.

    [VarGFaceNet, arXiv 1910.04985, eq. 5] Embeddings (N, embedding_size) of any length -> (N,), in 0..4.
    """
    return mx.sym.sum(mx.sym.square(_direction(student) - _direction(teacher)), axis=1)


def squared_cosine_loss(student: mx.sym.Symbol, teacher: mx.sym.Symbol) -> mx.sym.Symbol:
    """``(1 - cos)^2`` [VarGFaceNet, eq. 4; ShrinkTeaNet, arXiv 1905.10620]: twice (N, embedding_size) -> (N,), in 0..4."""
    return mx.sym.square(1 - cosine(student, teacher))


def cosine(student: mx.sym.Symbol, teacher: mx.sym.Symbol) -> mx.sym.Symbol:
    """Cosine of the angle between embeddings: twice (N, embedding_size) -> (N,)."""
    return mx.sym.sum(_direction(student) * _direction(teacher), axis=1)


DISTILLATION_LOSSES: dict[str, Callable[[mx.sym.Symbol, mx.sym.Symbol], mx.sym.Symbol]] = {
    "angular": angular_loss,
    "squared_cosine": squared_cosine_loss,
}


def distillation(student: mx.sym.Symbol, teacher: mx.sym.Symbol, *, form: str = "angular") -> mx.sym.Symbol:
    """Group of a distillation loss, a key of `DISTILLATION_LOSSES`, and the cosine to report, each (N,).

    Embeddings are (N, embedding_size); the teacher's receives no gradient. SettingError for an unknown form.
    """
    if form not in DISTILLATION_LOSSES:
        raise SettingError(f"distillation={form!r}: expected one of {', '.join(DISTILLATION_LOSSES)}")
    teacher = mx.sym.BlockGrad(teacher)
    return mx.sym.Group([DISTILLATION_LOSSES[form](student, teacher), mx.sym.BlockGrad(cosine(student, teacher))])


def _direction(embedding: mx.sym.Symbol) -> mx.sym.Symbol:
    return mx.sym.L2Normalization(embedding, mode="instance", eps=NORM_EPS)
