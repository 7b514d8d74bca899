"""The mean squared error between embeddings, as PocketNet's distillation has it."""

from __future__ import annotations

import mxnet as mx

from vargfacenet.symbols.distillation import angular_loss


def embedding_error(student: mx.sym.Symbol, teacher: mx.sym.Symbol, *, embedding_size: int) -> mx.sym.Symbol:
    """Return ``mean over dimensions of (s - t)^2`` of embeddings at length 1: twice (N, embedding_size) -> (N,).

    The published weight of this loss is 100. With a teacher whose checkpoint follows the student's epoch it is multi-step
    distillation. [Boutros et al., PocketNet, IEEE Access 2022, arXiv 2108.10710, section III]
    """
    return angular_loss(student, teacher) / embedding_size
