"""ElasticFace: a margin drawn again for each sample."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import numpy as np

from vargfacenet.options import About
from vargfacenet.symbols.margins.margin import MarginLoss, Samples, angle_of

_DRAWS = 1 << 60  # keeps the stream of margins apart from those of data and sampling
_MEAN = About("Mean of the margins: an angle added in arc forms, a cosine subtracted in cos forms.", low=0, high=1.6)
_DEVIATION = About("Standard deviation of the margins.", low=0, high=1)


@dataclasses.dataclass(frozen=True)
class ElasticFaceArc(MarginLoss):
    """``cos(theta + m_i)`` for the own identity, ``m_i`` drawn from N(margin, deviation) [arXiv 2109.09416, eq. 6].

    Attributes
    ----------
    margin, deviation
        Mean of the margins and their standard deviation.
    """

    margin: Annotated[float, _MEAN] = 0.5
    deviation: Annotated[float, _DEVIATION] = 0.05

    draws: ClassVar[bool] = True
    sorts: ClassVar[bool] = False

    def draw(self, count: int, *, seed: int, update: int) -> np.ndarray:
        random = np.random.Generator(np.random.Philox(key=[seed, _DRAWS + update]))
        return random.normal(self.margin, self.deviation, count).astype(np.float32)

    def margins(self, samples: Samples, *, operators: Any) -> Any:
        """Return the margin of each sample: (N,)."""
        if not self.sorts:
            return samples.draw
        # Rank 0 is the largest cosine, and takes the smallest draw.
        order = operators.argsort(-operators.BlockGrad(samples.cosine), axis=0)
        drawn = operators.sort(operators.BlockGrad(samples.draw), axis=0)
        return operators.BlockGrad(operators.take(drawn, operators.argsort(order, axis=0)))

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        angle = angle_of(samples.cosine, operators=operators)
        return operators.cos(angle + self.margins(samples, operators=operators))


@dataclasses.dataclass(frozen=True)
class ElasticFaceCos(ElasticFaceArc):
    """``cos(theta) - m_i`` for the own identity, ``m_i`` drawn from N(margin, deviation) [arXiv 2109.09416, eq. 5]."""

    margin: Annotated[float, _MEAN] = 0.35
    deviation: Annotated[float, _DEVIATION] = 0.05

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        return samples.cosine - self.margins(samples, operators=operators)


@dataclasses.dataclass(frozen=True)
class ElasticFaceArcPlus(ElasticFaceArc):
    """ElasticFace-Arc+: the sample nearest to its identity takes the smallest draw, the farthest the largest.

    [Boutros et al., arXiv 2109.09416, section 3.3]. The released code gives the sorted draws out by the sorting
    permutation itself and not by its inverse; here it is done as the paper says.
    """

    margin: Annotated[float, _MEAN] = 0.5
    deviation: Annotated[float, _DEVIATION] = 0.0175

    sorts: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class ElasticFaceCosPlus(ElasticFaceCos):
    """ElasticFace-Cos+: the draws are given out as in `ElasticFaceArcPlus`."""

    margin: Annotated[float, _MEAN] = 0.35
    deviation: Annotated[float, _DEVIATION] = 0.02

    sorts: ClassVar[bool] = True
