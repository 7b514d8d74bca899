"""MarginDistillation: the teacher's classifier, and a margin that follows how sure the teacher is."""

from __future__ import annotations

import dataclasses
import math
import typing

from vargfacenet.symbols.margins.margin import MarginLoss, Samples, angle_of


@dataclasses.dataclass(frozen=True)
class ArcDistill(MarginLoss):
    """``cos(theta + m)`` on the teacher's classifier, which stays as it is [ProxylessKD, arXiv 2011.00265; AML].

    Beyond pi the cosine continues to fall, as with the combined margin.

    Attributes
    ----------
    margin : float
        m, in radians.
    """

    margin: float = 0.45

    def target(self, samples: Samples, state: tuple, *, operators):
        return falling_cosine(angle_of(samples.cosine, operators=operators) + self.margin, operators=operators)


@dataclasses.dataclass(frozen=True)
class MarginDistillation(MarginLoss):
    """``cos(theta + m_i)`` on the teacher's classifier, ``m_i = (largest - smallest) d_i / max d + smallest``.

    ``d_i`` is the cosine of the teacher's embedding to the own identity, and the maximum is over the batch: an image of
    which the teacher is sure gets a larger margin. Beyond pi the cosine continues to fall, as with the combined margin.
    [Svitov and Alyamkin, arXiv 2003.02586, section 3]

    Attributes
    ----------
    margin_low, margin_high : float
        The smallest margin, at ``d_i = 0``, and the largest, in radians.
    """

    margin_low: float = 0.2
    margin_high: float = 0.5

    reads_teacher: typing.ClassVar[bool] = True

    def target(self, samples: Samples, state: tuple, *, operators):
        d = operators.BlockGrad(samples.teacher_cosine)
        # A batch in which the teacher is sure of nobody has no largest cosine to divide by.
        largest = operators.clip(operators.max(d), 1e-6, 1.0)
        margin = (self.margin_high - self.margin_low) * operators.broadcast_div(d, largest) + self.margin_low
        return falling_cosine(angle_of(samples.cosine, operators=operators) + margin, operators=operators)


def falling_cosine(angle, *, operators):
    """Return the cosine of an angle, which beyond pi continues to fall: any shape [arXiv 1704.08063, section 3.2]."""
    turns = operators.BlockGrad(operators.floor(angle / math.pi))
    odd = turns - 2 * operators.floor(turns / 2)
    return (1 - 2 * odd) * operators.cos(angle) - 2 * turns
