"""CurricularFace: hard negatives weigh more as training proceeds."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, ClassVar

from vargfacenet.options import About
from vargfacenet.symbols.margins.margin import COSINE_LIMIT, MarginLoss, Samples


@dataclasses.dataclass(frozen=True)
class CurricularFace(MarginLoss):
    """``cos(theta + m)`` for the own identity, ``cos_j (t + cos_j)`` for others that are nearer than that.

    Where ``cos(theta) <= cos(pi - m)`` the own identity has ``cos(theta) - m sin(pi - m)`` instead. ``t`` is the moving
    mean of the batches' mean cosine to the own identity, and starts at 0.
    [Huang et al., CurricularFace, CVPR 2020, arXiv 2004.00288, eqs. 5 to 8]

    Attributes
    ----------
    margin
        m.
    difficulty_momentum
        Share of the old t that an update keeps.
    """

    margin: Annotated[float, About("Angle added to the own identity.", low=0, high=1.6, unit="radians")] = 0.5
    difficulty_momentum: Annotated[float, About("Share of the old difficulty t that an update keeps.", 0, 1)] = 0.99

    states: ClassVar[dict[str, float]] = {"difficulty": 0.0}

    @property
    def state_momentum(self) -> float:  # type: ignore[override]
        return self.difficulty_momentum

    def observed(self, samples: Samples, *, operators: Any) -> tuple:
        return (operators.mean(samples.cosine),)

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        cosine = samples.cosine
        beyond = cosine - self.margin * math.sin(math.pi - self.margin)
        return operators.where(cosine > math.cos(math.pi - self.margin), self._added(cosine, operators), beyond)

    def others(self, cosines: Any, samples: Samples, state: tuple, *, operators: Any) -> Any:
        (t,) = state
        limit = operators.expand_dims(self._added(samples.cosine, operators), axis=1)  # (N, 1)
        hard = operators.broadcast_add(cosines, operators.reshape(t, shape=(1, 1))) * cosines
        return operators.where(operators.broadcast_greater(cosines, limit), hard, cosines)

    def _added(self, cosine: Any, operators: Any) -> Any:
        """``cos(theta + m)``: (N,) -> (N,)."""
        cosine = operators.clip(cosine, -COSINE_LIMIT, COSINE_LIMIT)
        sine = operators.sqrt(1 - operators.square(cosine))
        return cosine * math.cos(self.margin) - sine * math.sin(self.margin)
