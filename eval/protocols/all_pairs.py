"""Rates over all pairs of faces of one list, or across two, such as the challenge's TPR at FPR = 1e-8: exact, in little memory.

All products are made a block at a time, in float32. Of pairs of different people only the most alike are kept, as many as
the largest rate allows, and whatever float32 cannot tell apart is computed again in float64, to twelve decimals: the
outcome does not depend on blocks, threads or the order of sums.
"""

import collections
import dataclasses
import itertools

import numpy as np

from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.protocols.most_alike import NOBODY, Side, exact_cosines, most_alike, rounding

CHALLENGE_FAR = 1e-8
MOST_ACCEPTED = 1 << 23  # pairs of different people that are kept

Rate = collections.namedtuple("Rate", "far tar threshold accepted_same accepted_different")
Rate.__doc__ = """A false accept rate; the share of pairs of one person accepted there, 0 .. 1; the cosine above which pairs are
accepted; how many of each kind are. All but the first are None where the pairs are too few for the rate."""


@dataclasses.dataclass(frozen=True)
class AllPairs:
    """What all pairs say.

    Attributes
    ----------
    same, different : int
        Number of pairs of one person, and of two.
    rates : list of Rate
        In the order asked for.
    worst : list of (float, int, int)
        The pairs of different people that are most alike: cosine, row of the first list, row of the second.
    """

    same: int
    different: int
    rates: list
    worst: list


def score_all_pairs(
    features, labels, others=None, other_labels=None, *, fars=(CHALLENGE_FAR,), worst=10, progress=None
):
    """Scores all pairs of rows of one list, each pair once, or all pairs across two lists.

    Parameters
    ----------
    features : float32 array (n, d)
        One row a face, of any length; `vargfacenet.formats.arrays.FileRows` will do.
    labels : int array (n,)
        Whose face a row is; `NOBODY` for one that is nobody's.
    others, other_labels : float32 array (m, d), int array (m,), optional
        The second list.
    fars : sequence of float
        False accept rates, above 0 and below 1.
    worst : int
        How many of the most alike pairs of different people to name.
    progress : callable, optional
        Called with the number of pairs done since the last call.

    Returns
    -------
    AllPairs
        At a rate far the threshold is the smallest at which no more than ``far * different`` pairs of different people are
        strictly above it.

    Raises
    ------
    DataError
        Where shapes do not fit, a row is not finite or is zero, or so many pairs lie at one score that they cannot be kept.
    SettingError
        For a rate out of range, or one that would accept more than `MOST_ACCEPTED` pairs of different people.
    """
    single = others is None
    first = Side(features, labels, "the first list" if not single else "the list")
    second = first if single else Side(others, other_labels, "the second list")
    if first.size != second.size:
        raise DataError(f"features of {first.size} and of {second.size} numbers: both lists must come from one network")
    same = _count_same(first, second, single)
    total = len(first) * (len(first) - 1) // 2 if single else len(first) * len(second)
    allowed = _allowed(fars, total - same)
    top = most_alike(first, second, max([*allowed, worst]), single=single, different=total - same, progress=progress)
    thresholds = [top.threshold(count) if count else None for count in allowed]
    accepted = _count_accepted(first, second, single, sorted({value for value in thresholds if value is not None}))
    rates = []
    for far, threshold in zip(fars, thresholds):
        if threshold is None or not same:
            rates.append(Rate(far, None, None, None, None))
        else:
            right = accepted[threshold]
            rates.append(Rate(far, right / same, threshold, right, top.count_above(threshold)))
    return AllPairs(same, total - same, rates, top.best(worst))


_AT_ONCE = 2048  # faces of one person


def _count_same(first, second, single):
    known = [side.labels[side.labels != NOBODY] for side in (first, second)]
    (names, counts), (others, other_counts) = (np.unique(labels, return_counts=True) for labels in known)
    if single:
        return int((counts * (counts - 1) // 2).sum())
    _, here, there = np.intersect1d(names, others, assume_unique=True, return_indices=True)
    return int((counts[here] * other_counts[there]).sum())


def _allowed(fars, different):
    counts = []
    for far in fars:
        if not 0 < far < 1:
            raise SettingError(f"far={far}: expected a rate above 0 and below 1")
        allowed = int(far * different + 1e-9)
        counts.append(allowed if allowed < different else 0)  # where all may be accepted, nothing is measured either
        if counts[-1] > MOST_ACCEPTED:
            raise SettingError(
                f"far={far:g} of {different:,} pairs accepts {counts[-1]:,} of them, at most {MOST_ACCEPTED:,} are kept; "
                f"ask for a rate of {MOST_ACCEPTED / different:.1e} or less"
            )
    return counts


def _count_accepted(first, second, single, thresholds):
    """Pairs of one person above each threshold, exactly: dict of threshold to number."""
    accepted, unsure = dict.fromkeys(thresholds, 0), 2 * rounding(first.size)
    if not thresholds:
        return accepted
    people = second.people()
    for label, rows in first.people().items():
        columns = people.get(label)
        if columns is None:
            continue
        for part, others in itertools.product(_parts(rows), _parts(columns)):
            scores = (first.unit(part) @ second.unit(others).T).astype(np.float64)
            counted = part[:, None] < others[None, :] if single else np.ones(scores.shape, bool)
            near = np.zeros(scores.shape, bool)
            for threshold in thresholds:
                near |= np.abs(scores - threshold) <= unsure
            here, across = np.nonzero(near & counted)
            scores[here, across] = exact_cosines(first, part[here], second, others[across])
            for threshold in thresholds:
                accepted[threshold] += int((counted & (scores > threshold)).sum())
    return accepted


def _parts(rows):
    return np.array_split(rows, len(rows) // _AT_ONCE + 1)
