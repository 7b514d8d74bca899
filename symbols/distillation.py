"""Losses that draw a student's embedding to its teacher's, by direction alone.

Lengths play no part: both embeddings are scaled to length 1 first. One of length 0 stays 0, whose cosine with
anything is 0; gradients are finite there too (`NORM_EPS` bounds them).
"""

import mxnet as mx

from vargfacenet.errors import SettingError

NORM_EPS = 1e-10  # added to squared lengths


def angular_loss(student, teacher):
    """``|| t / |t| - s / |s| ||^2``, which is ``2 * (1 - cos)`` but at length 0: equivalence of angular distillation.

    [VarGFaceNet, arXiv 1910.04985, eq. 5]

    Parameters
    ----------
    student, teacher : mx.sym.Symbol
        Embeddings (N, embedding_size), of any length.

    Returns
    -------
    mx.sym.Symbol
        (N,), in 0..4.
    """
    return mx.sym.sum(mx.sym.square(_direction(student) - _direction(teacher)), axis=1)


def squared_cosine_loss(student, teacher):
    """``(1 - cos)^2`` [VarGFaceNet, eq. 4; ShrinkTeaNet, arXiv 1905.10620]; shapes as in `angular_loss`, in 0..4."""
    return mx.sym.square(1 - cosine(student, teacher))


def cosine(student, teacher):
    """Cosine of the angle between embeddings: twice (N, embedding_size) -> (N,)."""
    return mx.sym.sum(_direction(student) * _direction(teacher), axis=1)


DISTILLATION_LOSSES = {"angular": angular_loss, "squared_cosine": squared_cosine_loss}


def distillation(student, teacher, *, form="angular"):
    """A distillation loss with the cosine that people read.

    Parameters
    ----------
    student, teacher : mx.sym.Symbol
        Embeddings (N, embedding_size); the teacher's gets no gradient.
    form : str
        A key of `DISTILLATION_LOSSES`.

    Returns
    -------
    mx.sym.Symbol
        The group of loss and cosine, each (N,).

    Raises
    ------
    SettingError
        For an unknown form.
    """
    if form not in DISTILLATION_LOSSES:
        raise SettingError(f"distillation={form!r}: expected one of {', '.join(DISTILLATION_LOSSES)}")
    teacher = mx.sym.BlockGrad(teacher)
    return mx.sym.Group([DISTILLATION_LOSSES[form](student, teacher), mx.sym.BlockGrad(cosine(student, teacher))])


def _direction(embedding):
    return mx.sym.L2Normalization(embedding, mode="instance", eps=NORM_EPS)
