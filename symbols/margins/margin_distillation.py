"""MarginDistillation: the teacher's classifier, and a margin that follows how sure the teacher is."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, ClassVar

from vargfacenet.options import About
from vargfacenet.symbols.margins.margin import MarginLoss, Samples, angle_of, check_order


@dataclasses.dataclass(frozen=True)
class ArcDistill(MarginLoss):
    """``cos(theta + m)`` on the teacher's classifier, which stays as it is [ProxylessKD, arXiv 2011.00265; AML].

    Beyond pi the cosine continues to fall, as with the combined margin.

    Attributes
    ----------
    margin
        m.
    """

    margin: Annotated[float, About("Angle added to the own identity.", low=0, high=1.6, unit="radians")] = 0.45

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        return falling_cosine(angle_of(samples.cosine, operators=operators) + self.margin, operators=operators)


@dataclasses.dataclass(frozen=True)
class MarginDistillation(MarginLoss):
    """``cos(theta + m_i)`` on the teacher's classifier, ``m_i = (largest - smallest) d_i / max d + smallest``.

    ``d_i`` is the cosine of the teacher's embedding to the own identity, and the maximum is over the batch: an image of
    which the teacher is sure gets a larger margin. Beyond pi the cosine continues to fall, as with the combined margin.
    [Svitov and Alyamkin, arXiv 2003.02586, section 3]

    Attributes
    ----------
    margin_low, margin_high
        The smallest margin, at ``d_i = 0``, and the largest.
    """

    margin_low: Annotated[float, About("The smallest margin.", low=0, high=1.6, unit="radians")] = 0.2
    margin_high: Annotated[float, About("The largest margin.", low=0, high=1.6, unit="radians")] = 0.5

    reads_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_order(self, "margin_low", "margin_high")

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        d = operators.BlockGrad(samples.teacher_cosine)
        # A batch in which the teacher is sure of nobody has no largest cosine to divide by.
        largest = operators.clip(operators.max(d), 1e-6, 1.0)
        margin = (self.margin_high - self.margin_low) * operators.broadcast_div(d, largest) + self.margin_low
        return falling_cosine(angle_of(samples.cosine, operators=operators) + margin, operators=operators)


def falling_cosine(angle: Any, *, operators: Any) -> Any:
    """Return the cosine of an angle, which beyond pi continues to fall: any shape [arXiv 1704.08063, section 3.2]."""
    turns = operators.BlockGrad(operators.floor(angle / math.pi))
    odd = turns - 2 * operators.floor(turns / 2)
    return (1 - 2 * odd) * operators.cos(angle) - 2 * turns
