"""Rates of error from scores alone: exact, with ties, on as many pairs as there are.

A score says how much two faces are alike, such as the cosine of their embeddings. A pair is accepted where its score is
strictly above the threshold. A rate that the number of pairs cannot show is None: below one in ``len(different)`` nothing
was measured.
"""

import collections

import numpy as np

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_ROUNDING = 1e-9  # of far * pairs, whose product is meant to be whole

Curve = collections.namedtuple("Curve", "threshold far tar")
Curve.__doc__ = """Rates of accepted pairs at each threshold that tells scores apart, float64 arrays of one length: both rise
from 0 at the largest score to 1 at a threshold of -infinity."""


def threshold_at_far(different, far):
    """The smallest threshold at which no more pairs of different people are accepted than a false accept rate allows.

    Parameters
    ----------
    different : float array (n,)
        Scores of pairs of different people, in any order.
    far : float
        The rate, above 0 and below 1.

    Returns
    -------
    float or None
        A score of one of these pairs; None where ``far * n`` is less than one pair.
    """
    allowed = int(far * len(different) + _ROUNDING)
    if not 1 <= allowed < len(different):
        return None
    place = len(different) - 1 - allowed
    return float(np.partition(different, place)[place])


def tar_at_far(same, different, far):
    """Share of the pairs of one person that are accepted at `threshold_at_far`; None where that is, or `same` is empty."""
    threshold = threshold_at_far(different, far)
    return None if threshold is None or not len(same) else float((np.asarray(same) > threshold).mean())


def roc_curve(same, different):
    """The receiver operating characteristic.

    Parameters
    ----------
    same, different : float arrays (m,), (n,)
        Scores, in any order; neither empty.

    Returns
    -------
    Curve
    """
    same, different = np.sort(same), np.sort(different)
    thresholds = np.concatenate([np.unique(np.concatenate([same, different]))[::-1], [-np.inf]])
    return Curve(
        thresholds.astype(np.float64),
        1 - np.searchsorted(different, thresholds, side="right") / len(different),
        1 - np.searchsorted(same, thresholds, side="right") / len(same),
    )


def equal_error_rate(curve):
    """Where as many pairs of one person are rejected as pairs of different people are accepted.

    Between two thresholds that both miss it, the straight line between their points is followed.

    Parameters
    ----------
    curve : Curve
        As of `roc_curve`.

    Returns
    -------
    rate, threshold : float
        The rate, 0 .. 1, and the smallest threshold at which no more pairs are falsely accepted than falsely rejected.
    """
    gap = curve.far + curve.tar - 1  # false accepts less false rejects; rises from -1 to 1
    after = int(np.searchsorted(gap, 0, side="right"))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    rate = curve.far[before] + share * (curve.far[after] - curve.far[before])
    return float(rate), float(curve.threshold[before])
