"""ElasticFace: a margin drawn again for each sample."""

from __future__ import annotations

import dataclasses
import typing

import numpy as np

from vargfacenet.symbols.margins.margin import MarginLoss, Samples, angle_of

_DRAWS = 1 << 60  # keeps the stream of margins apart from those of data and sampling


@dataclasses.dataclass(frozen=True)
class ElasticFaceArc(MarginLoss):
    """``cos(theta + m_i)`` for the own identity, ``m_i`` drawn from N(margin, deviation) [arXiv 2109.09416, eq. 6].

    Attributes
    ----------
    margin : float
        Mean of the margins, in radians.
    deviation : float
        Their standard deviation.
    """

    margin: float = 0.5
    deviation: float = 0.05

    draws: typing.ClassVar[bool] = True
    sorts: typing.ClassVar[bool] = False

    def draw(self, count: int, *, seed: int, update: int) -> np.ndarray:
        random = np.random.Generator(np.random.Philox(key=[seed, _DRAWS + update]))
        return random.normal(self.margin, self.deviation, count).astype(np.float32)

    def margins(self, samples: Samples, *, operators):
        """Return the margin of each sample: (N,)."""
        if not self.sorts:
            return samples.draw
        # Rank 0 is the largest cosine, and takes the smallest draw.
        order = operators.argsort(-operators.BlockGrad(samples.cosine), axis=0)
        drawn = operators.sort(operators.BlockGrad(samples.draw), axis=0)
        return operators.BlockGrad(operators.take(drawn, operators.argsort(order, axis=0)))

    def target(self, samples: Samples, state: tuple, *, operators):
        angle = angle_of(samples.cosine, operators=operators)
        return operators.cos(angle + self.margins(samples, operators=operators))


@dataclasses.dataclass(frozen=True)
class ElasticFaceCos(ElasticFaceArc):
    """``cos(theta) - m_i`` for the own identity, ``m_i`` drawn from N(margin, deviation) [arXiv 2109.09416, eq. 5]."""

    margin: float = 0.35
    deviation: float = 0.05

    def target(self, samples: Samples, state: tuple, *, operators):
        return samples.cosine - self.margins(samples, operators=operators)


@dataclasses.dataclass(frozen=True)
class ElasticFaceArcPlus(ElasticFaceArc):
    """ElasticFace-Arc+: the sample nearest to its identity takes the smallest draw, the farthest the largest.

    [Boutros et al., arXiv 2109.09416, section 3.3]. The released code gives the sorted draws out by the sorting
    permutation itself and not by its inverse; here it is done as the paper says.
    """

    margin: float = 0.5
    deviation: float = 0.0175

    sorts: typing.ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class ElasticFaceCosPlus(ElasticFaceCos):
    """ElasticFace-Cos+: the draws are given out as in `ElasticFaceArcPlus`."""

    margin: float = 0.35
    deviation: float = 0.02

    sorts: typing.ClassVar[bool] = True
