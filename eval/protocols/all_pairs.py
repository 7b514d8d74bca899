"""Rates over all pairs of faces of one list, or across two lists, such as TAR at FAR = 1e-8: exact, in little memory.

The challenge calls them TPR and FPR. All products are computed in blocks, in float32. Of the pairs of different identities,
only the most similar are kept, as many as the largest rate allows. Scores that float32 cannot distinguish are computed
again in float64, to twelve decimals: the result does not depend on blocks, threads or the order of sums.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.protocols.most_similar import (
    DISTRACTOR,
    LabelledRows,
    RowArray,
    exact_cosines,
    most_similar,
    rounding,
)

CHALLENGE_FAR = 1e-8
MOST_ACCEPTED = 1 << 23  # pairs of different identities that are kept
_BLOCK = 2048  # faces of one identity that are compared at a time


class Rate(NamedTuple):
    """TAR at a FAR; all fields but the first are None if the pairs are too few for the rate."""

    far: float
    tar: float | None
    threshold: float | None  # pairs with a cosine strictly above it are accepted
    accepted_same: int | None
    accepted_different: int | None


@dataclasses.dataclass(frozen=True)
class AllPairs:
    """Rates over all pairs."""

    same: int  # pairs of one identity
    different: int  # pairs of different identities
    rates: list[Rate]  # in the order asked for
    worst: list[tuple[float, int, int]]  # most similar pairs of different identities: cosine, rows of both lists


def score_all_pairs(
    features: RowArray,
    labels: np.ndarray,
    others: RowArray | None = None,
    other_labels: np.ndarray | None = None,
    *,
    fars: Sequence[float] = (CHALLENGE_FAR,),
    worst: int = 10,
    progress: Callable[[int], object] | None = None,
) -> AllPairs:
    """Score all pairs of rows of one list, each pair once, or all pairs across two lists.

    At each FAR, the threshold is the smallest one at which at most ``far * different`` pairs of different identities are
    strictly above it.

    Parameters
    ----------
    features
        Embeddings, float32 (n, d), not necessarily normalised; a NumPy array, or rows that are read from a file
        when they are needed, such as `vargfacenet.formats.arrays.FileRows`.
    labels
        Identity of each row, int (n,); `DISTRACTOR` for a distractor.
    others, other_labels
        The second list, float32 (m, d) and int (m,).
    fars
        False accept rates, above 0 and below 1.
    worst
        Number of the most similar pairs of different identities to return.
    progress
        Called with the number of pairs done since the last call.

    Raises
    ------
    DataError
        If the shapes do not match, the second list lacks features or labels, a row is zero or not finite, or too many
        pairs have one score to be kept.
    SettingError
        If a rate is out of range, or would accept more than `MOST_ACCEPTED` pairs of different identities.
    """
    if (others is None) != (other_labels is None):
        raise DataError("the second list needs both features and labels")
    single = others is None
    first = LabelledRows(features, labels, "the first list" if not single else "the list")
    second = first
    if others is not None and other_labels is not None:
        second = LabelledRows(others, other_labels, "the second list")
    if first.size != second.size:
        raise DataError(
            f"features of {first.size} and {second.size} numbers: expected both lists from the same network"
        )
    same = _count_same(first, second, single)
    total = len(first) * (len(first) - 1) // 2 if single else len(first) * len(second)
    allowed = _allowed(fars, total - same)
    top = most_similar(first, second, max([*allowed, worst]), single=single, different=total - same, progress=progress)
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


def _count_same(first: LabelledRows, second: LabelledRows, single: bool) -> int:
    known = [side.labels[side.labels != DISTRACTOR] for side in (first, second)]
    (names, counts), (others, other_counts) = (np.unique(labels, return_counts=True) for labels in known)
    if single:
        return int((counts * (counts - 1) // 2).sum())
    _, here, there = np.intersect1d(names, others, assume_unique=True, return_indices=True)
    return int((counts[here] * other_counts[there]).sum())


def _allowed(fars: Sequence[float], different: int) -> list[int]:
    counts: list[int] = []
    for far in fars:
        if not 0 < far < 1:
            raise SettingError(f"far={far}: expected a rate above 0 and below 1")
        allowed = int(far * different + 1e-9)
        counts.append(allowed if allowed < different else 0)  # a rate that accepts all pairs measures nothing either
        if counts[-1] > MOST_ACCEPTED:
            raise SettingError(
                f"far={far:g} of {different:,} pairs accepts {counts[-1]:,} of them, at most {MOST_ACCEPTED:,} are kept; "
                f"give a rate of {MOST_ACCEPTED / different:.1e} or less"
            )
    return counts


def _count_accepted(
    first: LabelledRows, second: LabelledRows, single: bool, thresholds: list[float]
) -> dict[float, int]:
    """Return the exact number of pairs of one identity above each threshold."""
    accepted, unsure = dict.fromkeys(thresholds, 0), 2 * rounding(first.size)
    if not thresholds:
        return accepted
    identities = second.rows_by_identity()
    for label, rows in first.rows_by_identity().items():
        columns = identities.get(label)
        if columns is None:
            continue
        for part, others in itertools.product(_parts(rows), _parts(columns)):
            scores = (first.normalized(part) @ second.normalized(others).T).astype(np.float64)
            counted = part[:, None] < others[None, :] if single else np.ones(scores.shape, bool)
            near = np.zeros(scores.shape, bool)
            for threshold in thresholds:
                near |= np.abs(scores - threshold) <= unsure
            here, across = np.nonzero(near & counted)
            scores[here, across] = exact_cosines(first, part[here], second, others[across])
            for threshold in thresholds:
                accepted[threshold] += int((counted & (scores > threshold)).sum())
    return accepted


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, len(rows) // _BLOCK + 1)
