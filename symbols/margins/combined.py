"""The combined margin of ArcFace, CosFace and SphereFace."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from vargfacenet.options import About
from vargfacenet.symbols.heads import margin_change
from vargfacenet.symbols.margins.margin import MarginLoss, Samples


@dataclasses.dataclass(frozen=True)
class Combined(MarginLoss):
    """``cos(m1 * theta + m2) - m3`` for the own identity [Deng et al., arXiv 1801.07698, eq. 4].

    Beyond pi it continues to fall, as `vargfacenet.symbols.heads.margin_softmax` does.

    Attributes
    ----------
    m1, m2, m3
        Factor of the angle, angle added (radians), cosine subtracted.
    """

    m1: Annotated[float, About("Factor of the angle to the own identity (SphereFace).", low=0.001, high=4)] = 1.0
    m2: Annotated[float, About("Angle added to it (ArcFace).", low=0, high=1.6, unit="radians")] = 0.5
    m3: Annotated[float, About("Cosine subtracted (CosFace).", low=0, high=1)] = 0.0

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        change = margin_change(samples.cosine, m1=self.m1, m2=self.m2, m3=self.m3, operators=operators)
        return samples.cosine + change
