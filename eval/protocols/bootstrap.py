"""How far figures of verification would move with other pairs: percentile intervals by the bootstrap (Efron, 1979).

Pairs are taken as independent. They are not quite, as an image may be in several: true intervals are somewhat wider.
"""

import numpy as np

from vargfacenet.eval.protocols import roc

LEVEL = 0.95
RESAMPLES, LEAST = 2000, 200
_DRAWN = 40_000_000  # scores in all, where many pairs make fewer resamples do


def interval(values):
    """The middle 95% of resampled values: (low, high)."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def accuracy_over_folds(accuracies, random, resamples=RESAMPLES):
    """Interval of the mean accuracy where folds are drawn anew: accuracies (folds,), random a RandomState."""
    drawn = random.randint(len(accuracies), size=(resamples, len(accuracies)))
    return interval(np.asarray(accuracies)[drawn].mean(axis=1))


def accuracy_over_pairs(accuracies, sizes, random, resamples=RESAMPLES):
    """Interval of the mean accuracy where pairs are drawn anew within folds, whose thresholds stay.

    Of `sizes` pairs a fold, as many are right in a resample as a binomial draw says.
    """
    right = random.binomial(sizes, accuracies, size=(resamples, len(sizes)))
    return interval((right / sizes).mean(axis=1))


def tar_at_far(same, different, far, random, resamples=RESAMPLES):
    """Interval of `vargfacenet.eval.protocols.roc.tar_at_far`, pairs of both kinds drawn anew, the threshold with them.

    The threshold is an order statistic of the pairs of different people. In a resample, it is the one whose place, as a
    share of them, has a beta distribution.
    """
    allowed = int(far * len(different) + 1e-9)
    places = (len(different) * random.beta(allowed + 1, len(different) - allowed, resamples)).astype(int)
    thresholds = np.sort(different)[::-1][np.minimum(places, len(different) - 1)]
    above = 1 - np.searchsorted(np.sort(same), thresholds, side="right") / len(same)
    return interval(random.binomial(len(same), above) / len(same))


def equal_error_rate(same, different, curve, random, resamples=RESAMPLES):
    """Interval of `vargfacenet.eval.protocols.roc.equal_error_rate`; `curve` is that of the scores."""
    descending = -curve.threshold
    places = [np.searchsorted(descending, -np.asarray(scores)) + 1 for scores in (different, same)]
    rates = []
    for _ in range(min(resamples, max(LEAST, _DRAWN // (len(same) + len(different))))):
        far, tar = (_redrawn(place, len(descending), random) for place in places)
        rates.append(roc.equal_error_rate(roc.Curve(curve.threshold, far, tar))[0])
    return interval(rates)


def _redrawn(places, length, random):
    """Share of resampled scores above each threshold, from the place from which on each score is above."""
    drawn = np.bincount(places[random.randint(len(places), size=len(places))], minlength=length)
    return np.cumsum(drawn[:length]) / len(places)
