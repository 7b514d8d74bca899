"""MagFace: a margin that grows with the length of the embedding, which thereby becomes a measure of quality."""

from __future__ import annotations

import dataclasses

from vargfacenet.symbols.margins.margin import MarginLoss, Samples, angle_of


@dataclasses.dataclass(frozen=True)
class MagFace(MarginLoss):
    """``cos(theta + m(a))`` for the own identity, and ``lambda (a / u_a^2 + 1 / a)`` added to the loss.

    ``a`` is the norm clipped to ``l_a .. u_a``, and ``m(a)`` rises linearly from ``l_m`` to ``u_m`` between them. Both
    give the norm a gradient. At angles beyond 90 degrees there is no margin.
    [Meng et al., MagFace, CVPR 2021, arXiv 2103.06627, eqs. 3 to 5 and appendix]

    Attributes
    ----------
    norm_low, norm_high : float
        l_a and u_a.
    margin_low, margin_high : float
        l_m and u_m, in radians.
    norm_weight : float
        lambda.
    """

    norm_low: float = 10.0
    norm_high: float = 110.0
    margin_low: float = 0.45
    margin_high: float = 0.8
    norm_weight: float = 35.0

    def target(self, samples: Samples, state: tuple, *, operators):
        slope = (self.margin_high - self.margin_low) / (self.norm_high - self.norm_low)
        margin = slope * (self._norm(samples, operators) - self.norm_low) + self.margin_low  # (N,)
        added = operators.cos(angle_of(samples.cosine, operators=operators) + margin)
        return operators.where(samples.cosine > 0, added, samples.cosine)

    def penalty(self, samples: Samples, *, operators):
        norm = self._norm(samples, operators)
        return self.norm_weight * (norm / self.norm_high**2 + 1 / norm)

    def _norm(self, samples, operators):
        return operators.clip(samples.norm, self.norm_low, self.norm_high)
