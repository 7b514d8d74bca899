"""The ten-fold protocol on random embeddings: this package's, or a loop over thresholds as in the lineage."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vargfacenet.eval.protocols.verification import FOLDS, fold_accuracies


def prepare(*, pairs: int, thresholds: int, loop: bool = False) -> Callable[[], dict[str, Any]]:
    """Prepare random distances; `thresholds` is the number of candidates over 0 .. 4."""
    random = np.random.RandomState(0)
    is_same = np.arange(pairs) % 2 == 0
    distances = np.where(is_same, random.normal(1.2, 0.3, pairs), random.normal(1.8, 0.3, pairs)).clip(0, 4)
    candidates = np.arange(thresholds) * (4 / thresholds)
    score = loop_accuracies if loop else fold_accuracies

    def turn() -> dict[str, Any]:
        accuracies, _ = score(distances, is_same, candidates)
        return {"items": 1, "accuracy": float(accuracies.mean())}

    return turn


def loop_accuracies(
    distances: np.ndarray, is_same: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the same by its definition: each fold, each threshold, all pairs of the other folds."""
    parts = np.array_split(np.arange(len(distances)), FOLDS)
    accuracies, best = [], []
    for part in parts:
        others = np.setdiff1d(np.arange(len(distances)), part)
        scores = [((distances[others] < threshold) == is_same[others]).mean() for threshold in thresholds]
        best.append(thresholds[int(np.argmax(scores))])
        accuracies.append(((distances[part] < best[-1]) == is_same[part]).mean())
    return np.array(accuracies), np.array(best)
