"""The pairs of different people that are most alike, of one list or across two.

All products are made a block at a time in float32, and only scores from a floor on are kept, which rises as they come in.
Whatever float32 cannot tell apart is computed again in float64, to twelve decimals.
"""

import concurrent.futures
import threading

import numpy as np
import threadpoolctl

from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError

NOBODY = -1  # label of a face that is alone, such as a distractor's: no pair with it is of one person


class Side:
    """A list of faces: rows at length 1, and where each person's are."""

    def __init__(self, features, labels, name):
        self.features, self.labels, self.name = features, np.asarray(labels, np.int64), name
        if features.ndim != 2 or self.labels.shape != (len(features),) or not len(features):
            raise DataError(f"{name}: features of shape {features.shape} and labels of {self.labels.shape} do not fit")
        self.size = features.shape[1]

    def __len__(self):
        return len(self.labels)

    def unit(self, rows, dtype=np.float32):
        """Rows (slice or int array) at length 1."""
        values = np.asarray(self.features[rows], np.float64 if dtype == np.float64 else np.float32)
        lengths = np.sqrt(_row_products(values, values))
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            row = np.arange(len(self))[rows][bad[0]]
            raise DataError(f"{self.name}: row {row} is zero or not finite; the network or the feature file is damaged")
        return (values / lengths[:, None]).astype(dtype, copy=False)

    def people(self):
        """Rows of each person: dict of label to int array."""
        order = np.argsort(self.labels, kind="stable")
        ordered = self.labels[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        return {int(ordered[b]): rows for b, rows in zip(begins, np.split(order, begins[1:])) if ordered[b] != NOBODY}


def exact_cosines(first, rows, second, columns):
    """Cosines of rows of two lists (Side, int array each), float64, to twelve decimals: what equals on paper, as of images
    that come twice, is equal."""
    cosines = np.empty(len(rows))
    for begin in range(0, len(rows), _EXACT):
        part = slice(begin, begin + _EXACT)
        cosines[part] = _row_products(first.unit(rows[part], np.float64), second.unit(columns[part], np.float64))
    return np.round(cosines, 12)


def _row_products(one, other):
    return np.multiply(one, other, dtype=np.float64).sum(axis=1)


def rounding(size):
    """A bound of how far a float32 cosine of `size` numbers lies from the exact one, whatever the order of the sum."""
    return (size + 8) * 2.0**-24


# Rows of the first list a task, of the second a sweep, of both a product, which stays in a core's cache.
_TASK, _SWEEP, _ROWS, _COLUMNS = 1024, 16384, 512, 2048
_SAMPLE = 1536  # rows of each list that are looked at first
_EXACT = 8192  # pairs that are computed in float64 at a time


def most_alike(first, second, count, *, single, different, progress=None):
    """The `count` + 1 most alike pairs of different people, and those within rounding of the last of them.

    Parameters
    ----------
    first, second : Side
        The lists; with `single` one and the same, of which each pair is taken once.
    count : int
        How many pairs below the last may be asked for.
    different : int
        How many pairs of different people there are.
    progress : callable, optional
        Called with the number of pairs done since the last call.

    Returns
    -------
    MostAlike
    """
    count = min(count, different)
    for floor in _floors(first, second, single, count, different):
        top = MostAlike(first, second, count, floor)
        _sweep(first, second, single, top, progress)
        top.close()
        # What float32 may have put on the wrong side of the floor must not matter.
        if floor == -np.inf or (len(top) > count and top.scores[count] > floor + top.margin):
            break
        progress = None  # all pairs have been reported
    return top


class MostAlike:
    """The pairs of different people that are most alike, from a score on that rises as they come in."""

    def __init__(self, first, second, count, floor):
        self.first, self.second, self.count, self.floor = first, second, count, floor
        self.margin = 4 * rounding(first.size)  # two of them apart, and each may have been made exact meanwhile
        self._parts, self._held, self._lock = [], 0, threading.Lock()

    def add(self, scores, rows, columns):
        """Takes scores above the floor, with their rows in both lists."""
        with self._lock:
            self._parts.append((scores, rows, columns))
            self._held += len(scores)
            if self._held > 4 * self.count + (1 << 20):
                self._prune()

    def _prune(self):
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
                f"{self._held:,} pairs of different people lie within {self.margin:.0e} of each other at the threshold: "
                "the embeddings have collapsed, or the lists hold one image many times"
            )

    def _joined(self):
        if not self._parts:
            return np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
        return tuple(np.concatenate(parts) for parts in zip(*self._parts))

    def close(self):
        """Orders what was kept; scores around each threshold are made exact when they are asked for."""
        self._prune()
        scores, rows, columns = self._parts[0]
        order = np.argsort(-scores, kind="stable")
        self.scores, self.rows, self.columns = scores[order].astype(np.float64), rows[order], columns[order]
        self._exact = np.zeros(len(order), bool)
        self._parts = []

    def __len__(self):
        return len(self.scores)

    def threshold(self, allowed):
        """The exact score of the pair at place `allowed`, counted from 0, the most alike first."""
        around = self.scores[allowed]
        above = int((self.scores > around + self.margin).sum())
        near = np.flatnonzero(np.abs(self.scores - around) <= self.margin)
        self._make_exact(near)
        return float(np.sort(self.scores[near])[::-1][allowed - above])

    def count_above(self, threshold):
        """How many pairs lie strictly above an exact score."""
        near = np.abs(self.scores - threshold) <= self.margin
        self._make_exact(np.flatnonzero(near))
        return int((self.scores > threshold).sum())

    def best(self, count):
        """The most alike pairs, with their exact scores."""
        last = min(count, len(self.scores)) - 1
        if last < 0:
            return []
        self._make_exact(np.flatnonzero(self.scores >= self.scores[last] - self.margin))
        order = np.lexsort((self.columns, self.rows, -self.scores))[: last + 1]
        return [(float(self.scores[at]), int(self.rows[at]), int(self.columns[at])) for at in order]

    def _make_exact(self, places):
        places = places[~self._exact[places]]
        self.scores[places] = exact_cosines(self.first, self.rows[places], self.second, self.columns[places])
        self._exact[places] = True


def _floors(first, second, single, count, different):
    """Scores to keep pairs from, less and less sure to be below the pair at place `count`; at last all are kept.

    The first two are read off a sample of both lists: four and 64 times as many pairs as are wanted are to lie above.
    """
    random = np.random.RandomState(0)
    rows = np.sort(random.permutation(len(first))[:_SAMPLE])
    columns = np.sort(random.permutation(len(second))[:_SAMPLE])
    counted = apart(first.labels[rows][:, None], second.labels[columns][None, :])
    if single:
        counted &= rows[:, None] < columns[None, :]
    scores = np.sort((first.unit(rows) @ second.unit(columns).T)[counted])[::-1]
    for factor in (4, 64):
        place = int(factor * ((count + 1) / max(different, 1) * len(scores) + 8))
        if place < len(scores):
            yield float(scores[place])
    yield -np.inf


def apart(labels, others):
    """Whether pairs are of different people (bool array)."""
    return (labels != others) | (labels == NOBODY)


def _sweep(first, second, single, top, progress):
    """Shows all pairs of different people above its floor to `top`."""
    with threadpoolctl.threadpool_limits(1, "blas"), concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        for begin in range(0, len(second), _SWEEP):
            columns = slice(begin, min(begin + _SWEEP, len(second)))
            sweep = np.ascontiguousarray(second.unit(columns).T)
            last = columns.stop if single else len(first)
            tasks = [
                pool.submit(_task, first, second, slice(row, min(row + _TASK, last)), columns, sweep, single, top)
                for row in range(0, last, _TASK)
            ]
            for task in tasks:
                pairs = task.result()
                if progress:
                    progress(pairs)


def _task(first, second, rows, columns, sweep, single, top):
    """Some rows of the first list against a sweep of the second; gives the number of pairs."""
    unit, pairs = first.unit(rows), 0
    for row in range(0, len(unit), _ROWS):
        for column in range(0, sweep.shape[1], _COLUMNS):
            own = np.arange(rows.start + row, min(rows.start + row + _ROWS, rows.stop))
            across, width = columns.start + column, min(_COLUMNS, sweep.shape[1] - column)
            if single and across + width - 1 <= own[0]:
                continue  # each of these pairs is met the other way round
            pairs += int(np.clip(across + width - 1 - own, 0, width).sum()) if single else len(own) * width
            block = unit[row : row + _ROWS] @ sweep[:, column : column + width]
            found = np.flatnonzero(block > top.floor)
            if not len(found):
                continue
            here, there = own[found // width], across + found % width
            wanted = apart(first.labels[here], second.labels[there])
            if single:
                wanted &= here < there
            if wanted.any():
                top.add(block.ravel()[found[wanted]], here[wanted], there[wanted])
    return pairs
