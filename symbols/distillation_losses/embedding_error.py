"""The mean squared error between embeddings, as PocketNet's distillation has it."""

import mxnet as mx

from vargfacenet.symbols.distillation import angular_loss
from vargfacenet.symbols.registry import register_distillation


@register_distillation("embedding_error", alpha=100.0)
def embedding_error(student: mx.sym.Symbol, teacher: mx.sym.Symbol, *, embedding_size: int) -> mx.sym.Symbol:
    """Return ``mean over dimensions of (s - t)^2`` of embeddings at length 1: twice (N, embedding_size) -> (N,).

    The published weight of this loss is 100. With a teacher whose checkpoint follows the student's epoch it is multi-step
    distillation. [Boutros et al., PocketNet, IEEE Access 2022, arXiv 2108.10710, section III]
    """
    return angular_loss(student, teacher) / embedding_size
