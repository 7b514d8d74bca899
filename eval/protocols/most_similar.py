"""Search of the most similar pairs of different identities, in one list or across two.

All products are computed in blocks, in float32. Only scores above a floor are kept, and the floor rises as scores arrive.
Scores that float32 cannot distinguish are computed again in float64, to twelve decimals.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import threadpoolctl

from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError

DISTRACTOR = (
    -1
)  # label of a face whose identity is unknown: every pair with it counts as a pair of different identities


class RowArray(Protocol):
    """Rows of numbers, float (n, d): a NumPy array, or rows that are read from a file when they are needed."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ndim(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class LabelledRows:
    """A list of embeddings, float (n, d), and the identity of each row; `name` names the list in errors."""

    def __init__(self, features: RowArray, labels: np.ndarray, name: str) -> None:
        self.features, self.labels, self.name = features, np.asarray(labels, np.int64), name
        if features.ndim != 2 or self.labels.shape != (len(features),) or not len(features):
            raise DataError(
                f"{name}: features of shape {features.shape} and labels of shape {self.labels.shape} do not match"
            )
        self.size: int = features.shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    def normalized(self, rows: slice | np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Return L2-normalised rows; DataError if one is zero or not finite."""
        values = np.asarray(self.features[rows], np.float64 if dtype == np.float64 else np.float32)
        norms = np.sqrt(_row_products(values, values))
        bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
        if len(bad):
            row = np.arange(len(self))[rows][bad[0]]
            raise DataError(f"{self.name}: row {row} is zero or not finite; the network or the feature file is damaged")
        return (values / norms[:, None]).astype(dtype, copy=False)

    def rows_by_identity(self) -> dict[int, np.ndarray]:
        """Return the rows of each identity, without distractors."""
        order = np.argsort(self.labels, kind="stable")
        ordered = self.labels[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        return {
            int(ordered[b]): rows for b, rows in zip(begins, np.split(order, begins[1:])) if ordered[b] != DISTRACTOR
        }


def exact_cosines(first: LabelledRows, rows: np.ndarray, second: LabelledRows, columns: np.ndarray) -> np.ndarray:
    """Return the cosines of rows of two lists, float64, rounded to twelve decimals.

    Mathematically equal cosines, such as those of duplicate images, are therefore equal.
    """
    cosines = np.empty(len(rows))
    for begin in range(0, len(rows), _EXACT):
        part = slice(begin, begin + _EXACT)
        cosines[part] = _row_products(
            first.normalized(rows[part], np.float64), second.normalized(columns[part], np.float64)
        )
    return np.round(cosines, 12)


def _row_products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.multiply(one, other, dtype=np.float64).sum(axis=1)


def rounding(size: int) -> float:
    """Return a bound of the error of a float32 cosine of `size` numbers, for any order of the sum."""
    return (size + 8) * 2.0**-24


# Rows of the first list per task, rows of the second per sweep, rows of both per product, which fits a core's cache.
_TASK, _SWEEP, _ROWS, _COLUMNS = 1024, 16384, 512, 2048
_SAMPLE = 1536  # rows of each list from which the floor is estimated
_EXACT = 8192  # pairs that are computed in float64 at a time


def most_similar(
    first: LabelledRows,
    second: LabelledRows,
    count: int,
    *,
    single: bool,
    different: int,
    progress: Callable[[int], object] | None = None,
) -> MostSimilar:
    """Return the `count` + 1 most similar pairs of different identities, and those within rounding of the last one.

    Parameters
    ----------
    first, second
        The lists; the same list if `single`, of which each pair is taken once.
    count
        Largest number of accepted pairs that will be asked for.
    different
        Number of pairs of different identities.
    progress
        Called with the number of pairs done since the last call.
    """
    count = min(count, different)
    for floor in _floors(first, second, single, count, different):
        top = MostSimilar(first, second, count, floor)
        _sweep(first, second, single, top, progress)
        top.close()
        # Pairs that rounding may have put on the wrong side of the floor must not matter.
        if floor == -np.inf or (len(top) > count and top.scores[count] > floor + top.margin):
            break
        progress = None  # all pairs have been reported
    return top


_Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # scores, rows of the first list, rows of the second list


class MostSimilar:
    """The most similar pairs of different identities, above a floor that rises as pairs are added."""

    def __init__(self, first: LabelledRows, second: LabelledRows, count: int, floor: float) -> None:
        self.first, self.second, self.count, self.floor = first, second, count, floor
        self.margin = 4 * rounding(first.size)  # twice the distance of two scores, since each may have been made exact
        self._parts: list[_Part] = []
        self._held, self._lock = 0, threading.Lock()

    def add(self, scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Add pairs whose scores are above the floor, by their rows in both lists."""
        with self._lock:
            self._parts.append((scores, rows, columns))
            self._held += len(scores)
            if self._held > 4 * self.count + (1 << 20):
                self._prune()

    def _prune(self) -> None:
        scores, rows, columns = self._joined()
        keep = np.ones(len(scores), bool)
        if len(scores) > self.count:
            place = len(scores) - 1 - self.count
            self.floor = max(self.floor, np.partition(scores, place)[place] - self.margin)
            keep = scores > self.floor
        self._parts = [(scores[keep], rows[keep], columns[keep])]
        self._held = int(keep.sum())
        if self._held > 2 * self.count + (1 << 19):
            raise DataError(
                f"{self._held:,} pairs of different identities are within {self.margin:.0e} of each other at the threshold: "
                "the embeddings have collapsed, or the lists hold one image many times"
            )

    def _joined(self) -> _Part:
        if not self._parts:
            return np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
        scores, rows, columns = (np.concatenate(parts) for parts in zip(*self._parts))
        return scores, rows, columns

    def close(self) -> None:
        """Sort the kept pairs; scores near a threshold are computed exactly when they are asked for."""
        self._prune()
        scores, rows, columns = self._parts[0]
        order = np.argsort(-scores, kind="stable")
        self.scores, self.rows, self.columns = scores[order].astype(np.float64), rows[order], columns[order]
        self._exact = np.zeros(len(order), bool)
        self._parts = []

    def __len__(self) -> int:
        return len(self.scores)

    def threshold(self, allowed: int) -> float:
        """Return the exact score of the pair at place `allowed`, from 0, in descending order."""
        around = self.scores[allowed]
        above = int((self.scores > around + self.margin).sum())
        near = np.flatnonzero(np.abs(self.scores - around) <= self.margin)
        self._make_exact(near)
        return float(np.sort(self.scores[near])[::-1][allowed - above])

    def count_above(self, threshold: float) -> int:
        """Return the number of pairs strictly above an exact score."""
        near = np.abs(self.scores - threshold) <= self.margin
        self._make_exact(np.flatnonzero(near))
        return int((self.scores > threshold).sum())

    def best(self, count: int) -> list[tuple[float, int, int]]:
        """Return exact score and rows of the most similar pairs."""
        last = min(count, len(self.scores)) - 1
        if last < 0:
            return []
        self._make_exact(np.flatnonzero(self.scores >= self.scores[last] - self.margin))
        order = np.lexsort((self.columns, self.rows, -self.scores))[: last + 1]
        return [(float(self.scores[at]), int(self.rows[at]), int(self.columns[at])) for at in order]

    def _make_exact(self, places: np.ndarray) -> None:
        places = places[~self._exact[places]]
        self.scores[places] = exact_cosines(self.first, self.rows[places], self.second, self.columns[places])
        self._exact[places] = True


def _floors(first: LabelledRows, second: LabelledRows, single: bool, count: int, different: int) -> Iterator[float]:
    """Yield lower and lower floors, the last of which keeps all pairs, until one is below the pair at place `count`.

    The first two are estimated from a sample of both lists, so that 4 and 64 times as many pairs as needed are above.
    """
    random = np.random.RandomState(0)
    rows = np.sort(random.permutation(len(first))[:_SAMPLE])
    columns = np.sort(random.permutation(len(second))[:_SAMPLE])
    counted = are_different(first.labels[rows][:, None], second.labels[columns][None, :])
    if single:
        counted &= rows[:, None] < columns[None, :]
    scores = np.sort((first.normalized(rows) @ second.normalized(columns).T)[counted])[::-1]
    for factor in (4, 64):
        place = int(factor * ((count + 1) / max(different, 1) * len(scores) + 8))
        if place < len(scores):
            yield float(scores[place])
    yield -np.inf


def are_different(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return True (bool array) for pairs of different identities."""
    return (labels != others) | (labels == DISTRACTOR)


def _sweep(
    first: LabelledRows,
    second: LabelledRows,
    single: bool,
    top: MostSimilar,
    progress: Callable[[int], object] | None,
) -> None:
    """Add all pairs of different identities above the floor to `top`."""
    with threadpoolctl.threadpool_limits(1, "blas"), concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        for begin in range(0, len(second), _SWEEP):
            columns = slice(begin, min(begin + _SWEEP, len(second)))
            sweep = np.ascontiguousarray(second.normalized(columns).T)
            last = columns.stop if single else len(first)
            tasks = [
                pool.submit(_task, first, second, slice(row, min(row + _TASK, last)), columns, sweep, single, top)
                for row in range(0, last, _TASK)
            ]
            for task in tasks:
                pairs = task.result()
                if progress:
                    progress(pairs)


def _task(
    first: LabelledRows,
    second: LabelledRows,
    rows: slice,
    columns: slice,
    sweep: np.ndarray,
    single: bool,
    top: MostSimilar,
) -> int:
    """Compare rows of the first list with a sweep of the second; returns the number of pairs."""
    normalized, pairs = first.normalized(rows), 0
    for row in range(0, len(normalized), _ROWS):
        for column in range(0, sweep.shape[1], _COLUMNS):
            own = np.arange(rows.start + row, min(rows.start + row + _ROWS, rows.stop))
            across, width = columns.start + column, min(_COLUMNS, sweep.shape[1] - column)
            if single and across + width - 1 <= own[0]:
                continue  # these pairs are compared in the other order
            pairs += int(np.clip(across + width - 1 - own, 0, width).sum()) if single else len(own) * width
            block = normalized[row : row + _ROWS] @ sweep[:, column : column + width]
            found = np.flatnonzero(block > top.floor)
            if not len(found):
                continue
            here, there = own[found // width], across + found % width
            wanted = are_different(first.labels[here], second.labels[there])
            if single:
                wanted &= here < there
            if wanted.any():
                top.add(block.ravel()[found[wanted]], here[wanted], there[wanted])
    return pairs
