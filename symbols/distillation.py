"""Losses that draw a student's embedding towards its teacher's by direction only.

Both embeddings are scaled to length 1 first. An embedding of length 0 stays 0: its cosine with any other is 0, and its
gradients are finite (`NORM_EPS` bounds them). Other packages add losses by `vargfacenet.symbols.register_distillation`.
"""

from collections.abc import Mapping
from typing import Any, Optional

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import check_options
from vargfacenet.symbols.registry import DISTILLATIONS, register_distillation

NORM_EPS = 1e-10  # added to squared lengths


@register_distillation("angular")
def angular_loss(student: mx.sym.Symbol, teacher: mx.sym.Symbol) -> mx.sym.Symbol:
    """Angular distillation loss ``|| t / |t| - s / |s| ||^2``, which equals ``2 * (1 - cos)`` except at length 0.

    [VarGFaceNet, arXiv 1910.04985, eq. 5]

    Parameters
    ----------
    student, teacher
        Embeddings (N, embedding_size), of any length.

    Returns
    -------
    mx.sym.Symbol
        (N,), in 0..4.
    """
    return mx.sym.sum(mx.sym.square(_direction(student) - _direction(teacher)), axis=1)


@register_distillation("squared_cosine")
def squared_cosine_loss(student: mx.sym.Symbol, teacher: mx.sym.Symbol) -> mx.sym.Symbol:
    """``(1 - cos)^2`` [VarGFaceNet, eq. 4; ShrinkTeaNet, arXiv 1905.10620]; shapes as in `angular_loss`, in 0..4."""
    return mx.sym.square(1 - cosine(student, teacher))


def cosine(student: mx.sym.Symbol, teacher: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return the cosine of the angle between embeddings: twice (N, embedding_size) -> (N,)."""
    return mx.sym.sum(_direction(student) * _direction(teacher), axis=1)


def list_distillations() -> list[str]:
    """Return the names of the distillation losses, those of installed packages included."""
    return DISTILLATIONS.names()


def distillation(
    student: mx.sym.Symbol,
    teacher: mx.sym.Symbol,
    *,
    form: str = "angular",
    label: Optional[mx.sym.Symbol] = None,
    num_identities: int = 0,
    embedding_size: int = 0,
    options: Optional[Mapping[str, Any]] = None,
) -> mx.sym.Symbol:
    """Return a distillation loss with the cosine to report.

    Parameters
    ----------
    student, teacher
        Embeddings (N, embedding_size); the teacher's gets no gradient.
    form
        One of `list_distillations`.
    label
        (N,), identities 0 .. num_identities - 1; needed by losses that read them.
    num_identities, embedding_size
        Needed by losses that name them.
    options
        The loss's own options.

    Returns
    -------
    mx.sym.Symbol
        The group of loss and cosine, each (N,).

    Raises
    ------
    SettingError
        For an unknown form or option, or where labels are needed and missing.
    """
    if form not in DISTILLATIONS:
        raise SettingError(f"distillation={form!r}: expected one of {', '.join(DISTILLATIONS)}")
    loss = DISTILLATIONS[form]
    if "label" in loss.inputs and label is None:
        raise SettingError(f"distillation={form} reads the identities of images: give it labels")
    teacher = mx.sym.BlockGrad(teacher)
    found = loss(
        num_identities=num_identities,
        embedding_size=embedding_size,
        options=check_options(loss.options, options or {}, owner=form),
        student=student,
        teacher=teacher,
        label=label,
    )
    return mx.sym.Group([found, mx.sym.BlockGrad(cosine(student, teacher))])


def _direction(embedding: mx.sym.Symbol) -> mx.sym.Symbol:
    return mx.sym.L2Normalization(embedding, mode="instance", eps=NORM_EPS)
