"""Percentile intervals of verification rates by the bootstrap (Efron, 1979).

Pairs are treated as independent. As an image may be in several pairs they are not quite independent, and true intervals
are somewhat wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vargfacenet.eval.protocols import roc

LEVEL = 0.95
RESAMPLES, LEAST = 2000, 200
_DRAWN = 40_000_000  # scores drawn in total: with many pairs, fewer resamples suffice


class Interval(NamedTuple):
    """A 95% interval."""

    low: float
    high: float


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Return the middle 95% of resampled values."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


def accuracy_over_folds(accuracies: np.ndarray, random: np.random.RandomState, resamples: int = RESAMPLES) -> Interval:
    """Return the interval of the mean accuracy, float (folds,), if folds are resampled."""
    drawn = random.randint(len(accuracies), size=(resamples, len(accuracies)))
    return interval(np.asarray(accuracies)[drawn].mean(axis=1))


def accuracy_over_pairs(
    accuracies: np.ndarray, sizes: np.ndarray, random: np.random.RandomState, resamples: int = RESAMPLES
) -> Interval:
    """Return the interval of the mean accuracy if pairs are resampled within folds, whose thresholds stay.

    The number of correct pairs of a fold in a resample is a binomial draw from the number of its pairs, `sizes`.
    """
    right = random.binomial(sizes, accuracies, size=(resamples, len(sizes)))
    return interval((right / sizes).mean(axis=1))


def tar_at_far(
    same: np.ndarray, different: np.ndarray, far: float, random: np.random.RandomState, resamples: int = RESAMPLES
) -> Interval:
    """Return the interval of `vargfacenet.eval.protocols.roc.tar_at_far` if both kinds of pairs are resampled.

    The threshold is an order statistic of the pairs of different identities. Its quantile in a resample has a beta
    distribution.
    """
    allowed = int(far * len(different) + 1e-9)
    places = (len(different) * random.beta(allowed + 1, len(different) - allowed, resamples)).astype(int)
    thresholds = np.sort(different)[::-1][np.minimum(places, len(different) - 1)]
    above = 1 - np.searchsorted(np.sort(same), thresholds, side="right") / len(same)
    return interval(random.binomial(len(same), above) / len(same))


def equal_error_rate(
    same: np.ndarray,
    different: np.ndarray,
    curve: roc.Curve,
    random: np.random.RandomState,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the interval of `vargfacenet.eval.protocols.roc.equal_error_rate`; `curve` is the curve of the scores."""
    descending = -curve.threshold
    places = [np.searchsorted(descending, -np.asarray(scores)) + 1 for scores in (different, same)]
    rates = []
    for _ in range(min(resamples, max(LEAST, _DRAWN // (len(same) + len(different))))):
        far, tar = (_resampled(place, len(descending), random) for place in places)
        rates.append(roc.equal_error_rate(roc.Curve(curve.threshold, far, tar)).rate)
    return interval(rates)


def _resampled(places: np.ndarray, length: int, random: np.random.RandomState) -> np.ndarray:
    """Return the share of resampled scores above each threshold; `places` holds the first such threshold of each score."""
    drawn = np.bincount(places[random.randint(len(places), size=len(places))], minlength=length)
    return np.cumsum(drawn[:length]) / len(places)
