"""Exact error rates of scores, with ties.

A score is the similarity of two faces, such as the cosine of their embeddings. A pair is accepted if its score is strictly
above the threshold. A rate below one in ``len(different)`` cannot be measured and is None.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_ROUNDING = 1e-9  # of far * pairs, a product that is meant to be a whole number


class Curve(NamedTuple):
    """Receiver operating characteristic: FAR and TAR at each distinct score, in descending order, and at -infinity.

    The fields are float64 arrays of one length. Both rates rise from 0 to 1.
    """

    threshold: np.ndarray
    far: np.ndarray
    tar: np.ndarray


class EqualErrorRate(NamedTuple):
    """Equal error rate, 0 .. 1, and the smallest threshold at which at most as many pairs are falsely accepted as rejected."""

    rate: float
    threshold: float


def threshold_at_far(different: np.ndarray, far: float) -> float | None:
    """Return the smallest threshold at which the false accept rate is at most `far`, above 0 and below 1.

    `different`, float (n,), holds the scores of pairs of different identities, in any order. The threshold is one of them;
    it is None if ``far * n`` is less than one pair.
    """
    allowed = int(far * len(different) + _ROUNDING)
    if not 1 <= allowed < len(different):
        return None
    place = len(different) - 1 - allowed
    return float(np.partition(different, place)[place])


def tar_at_far(same: np.ndarray, different: np.ndarray, far: float) -> float | None:
    """Return the true accept rate at `threshold_at_far`; None if there is no threshold, or `same` is empty."""
    threshold = threshold_at_far(different, far)
    return None if threshold is None or not len(same) else float((np.asarray(same) > threshold).mean())


def roc_curve(same: np.ndarray, different: np.ndarray) -> Curve:
    """Return the receiver operating characteristic of scores, float (m,) and (n,), in any order; neither may be empty."""
    same, different = np.sort(same), np.sort(different)
    thresholds = np.concatenate([np.unique(np.concatenate([same, different]))[::-1], [-np.inf]])
    return Curve(
        thresholds.astype(np.float64),
        1 - np.searchsorted(different, thresholds, side="right") / len(different),
        1 - np.searchsorted(same, thresholds, side="right") / len(same),
    )


def equal_error_rate(curve: Curve) -> EqualErrorRate:
    """Return the rate at which false accepts and false rejects are equal, interpolated linearly between two thresholds."""
    gap = curve.far + curve.tar - 1  # false accepts less false rejects; rises from -1 to 1
    after = int(np.searchsorted(gap, 0, side="right"))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    rate = curve.far[before] + share * (curve.far[after] - curve.far[before])
    return EqualErrorRate(float(rate), float(curve.threshold[before]))
