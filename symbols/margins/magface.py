"""MagFace: a margin that grows with the length of the embedding, which thereby becomes a measure of quality."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from vargfacenet.options import About
from vargfacenet.symbols.margins.margin import MarginLoss, Samples, angle_of, check_order


@dataclasses.dataclass(frozen=True)
class MagFace(MarginLoss):
    """``cos(theta + m(a))`` for the own identity, and ``lambda (a / u_a^2 + 1 / a)`` added to the loss.

    ``a`` is the norm clipped to ``l_a .. u_a``, and ``m(a)`` rises linearly from ``l_m`` to ``u_m`` between them. Both
    give the norm a gradient. At angles beyond 90 degrees there is no margin.
    [Meng et al., MagFace, CVPR 2021, arXiv 2103.06627, eqs. 3 to 5 and appendix]

    Attributes
    ----------
    norm_low, norm_high
        l_a and u_a.
    margin_low, margin_high
        l_m and u_m.
    norm_weight
        lambda.
    """

    norm_low: Annotated[float, About("Norms below it count as this one.", low=1e-3, high=1e6)] = 10.0
    norm_high: Annotated[float, About("Norms above it count as this one.", low=1e-3, high=1e6)] = 110.0
    margin_low: Annotated[float, About("Angle added at norm_low.", low=0, high=1.6, unit="radians")] = 0.45
    margin_high: Annotated[float, About("Angle added at norm_high.", low=0, high=1.6, unit="radians")] = 0.8
    norm_weight: Annotated[float, About("Weight of the term that makes norms large.", low=0, high=1e6)] = 35.0

    def __post_init__(self) -> None:
        check_order(self, "norm_low", "norm_high")
        check_order(self, "margin_low", "margin_high")

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        slope = (self.margin_high - self.margin_low) / (self.norm_high - self.norm_low)
        margin = slope * (self._norm(samples, operators) - self.norm_low) + self.margin_low  # (N,)
        added = operators.cos(angle_of(samples.cosine, operators=operators) + margin)
        return operators.where(samples.cosine > 0, added, samples.cosine)

    def penalty(self, samples: Samples, *, operators: Any) -> Any:
        norm = self._norm(samples, operators)
        return self.norm_weight * (norm / self.norm_high**2 + 1 / norm)

    def _norm(self, samples: Samples, operators: Any) -> Any:
        return operators.clip(samples.norm, self.norm_low, self.norm_high)
