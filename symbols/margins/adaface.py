"""AdaFace: a margin that follows the quality of the image, which the length of the embedding stands for."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, ClassVar

from vargfacenet.options import About
from vargfacenet.symbols.margins.margin import MarginLoss, Samples, angle_of

_EPS = 1e-3
_NORMS = (0.001, 100.0)


@dataclasses.dataclass(frozen=True)
class AdaFace(MarginLoss):
    """``cos(theta - m z) - (m + m z)`` for the own identity, ``z = clip(h (norm - mean) / (sd + 0.001), -1, 1)``.

    Norms are clipped to 0.001 .. 100 and get no gradient. Mean and standard deviation (of N - 1) are moving means over
    batches. A batch of one image has no standard deviation and leaves that state as it is. ``theta - m z`` is clipped to
    0.001 .. pi - 0.001. [Kim et al., AdaFace, CVPR 2022, arXiv 2204.00964, eqs. 7 to 10]

    Attributes
    ----------
    margin, concentration
        m and h.
    norm_momentum
        Share of the old mean and deviation that an update keeps.
    """

    margin: Annotated[float, About("m of AdaFace.", low=0, high=1.6)] = 0.4
    concentration: Annotated[float, About("h of AdaFace: how far the norm moves the margin.", low=0, high=10)] = 0.333
    norm_momentum: Annotated[
        float, About("Share of the norms' old mean and deviation that an update keeps; 0: the batch's own.", 0, 1)
    ] = 0.99

    states: ClassVar[dict[str, float]] = {"norm_mean": 20.0, "norm_deviation": 100.0}

    @property
    def state_momentum(self) -> float:  # type: ignore[override]
        return self.norm_momentum

    def observed(self, samples: Samples, *, operators: Any) -> tuple:
        norm = operators.clip(samples.norm, *_NORMS)
        mean = operators.mean(norm)
        count = operators.sum(operators.ones_like(norm))
        squares = operators.sum(operators.square(operators.broadcast_sub(norm, mean)))
        return mean, operators.sqrt(squares / (count - 1))

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        mean, deviation = state
        norm = operators.clip(operators.BlockGrad(samples.norm), *_NORMS)
        z = operators.broadcast_div(operators.broadcast_sub(norm, mean), deviation + _EPS)
        z = operators.clip(self.concentration * z, -1, 1)  # (N,)
        angle = angle_of(samples.cosine, operators=operators) - self.margin * z
        return operators.cos(operators.clip(angle, _EPS, math.pi - _EPS)) - self.margin * (1 + z)
