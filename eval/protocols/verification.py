"""Verification protocol of the lineage: LFW's protocol as InsightFace computes it.

Scores are squared distances of L2-normalised embeddings. There are ten folds in order, unshuffled. The threshold that is
best on nine folds (the first of equals) is applied to the tenth.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols.normalize import l2_normalize

FOLDS = 10
ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
TAR_THRESHOLDS = np.arange(0, 4, 0.001)
FARS = (0.1, 0.01, 0.001)


@dataclasses.dataclass(frozen=True)
class Verification:
    """Rates of a network on a verification set."""

    accuracy: float  # mean over the folds, embeddings of image and mirror added
    std: float  # standard deviation over the folds
    accuracy_no_flip: float  # without the mirror
    std_no_flip: float
    threshold: float  # mean over the folds of the squared distance, 0 .. 4, below which a pair is accepted
    tar: dict[str, float]  # by FAR, such as "0.001"; NaN if it cannot be measured
    embedding_norm: float  # mean L2 norm of the embeddings, mirrored images included
    pairs: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON: a rate that is NaN becomes None."""
        fields = dataclasses.asdict(self)
        fields["tar"] = {far: None if np.isnan(value) else value for far, value in self.tar.items()}
        return fields


class FoldAccuracies(NamedTuple):
    """Accuracy of each fold, and the threshold applied to it, float (folds,)."""

    accuracies: np.ndarray
    thresholds: np.ndarray


class _FoldCounts(NamedTuple):
    """Counts by fold and threshold, int (folds, thresholds), and numbers of pairs by fold, int (folds,)."""

    accepted: np.ndarray  # pairs of one identity
    same_sizes: np.ndarray
    rejected: np.ndarray  # pairs of different identities
    different_sizes: np.ndarray


def verify_embeddings(embeddings: np.ndarray, mirrored: np.ndarray, is_same: np.ndarray) -> Verification:
    """Score embeddings by the protocol.

    Parameters
    ----------
    embeddings, mirrored
        Of the images and of their mirrors, float (2 * pairs, embedding_size), not normalised; rows 2i and 2i + 1 are
        pair i.
    is_same
        bool (pairs,): the pair shows one identity.

    Raises
    ------
    DataError
        If there are fewer pairs than folds, or the embeddings hold NaN or infinity.
    """
    embeddings, mirrored = np.asarray(embeddings, np.float64), np.asarray(mirrored, np.float64)
    is_same = np.asarray(is_same, bool)
    if len(is_same) < FOLDS:
        raise DataError(f"{len(is_same)} pairs are too few: the protocol has {FOLDS} folds")
    if not (np.isfinite(embeddings).all() and np.isfinite(mirrored).all()):
        raise DataError("the embeddings hold NaN or infinity: the checkpoint is damaged or its training diverged")
    plain = fold_accuracies(pair_distances(embeddings), is_same)
    distances = pair_distances(embeddings + mirrored)
    accuracies, thresholds = fold_accuracies(distances, is_same)
    norms = np.linalg.norm(np.concatenate([embeddings, mirrored]), axis=1)
    return Verification(
        accuracy=float(accuracies.mean()),
        std=float(accuracies.std()),
        accuracy_no_flip=float(plain[0].mean()),
        std_no_flip=float(plain[0].std()),
        threshold=float(thresholds.mean()),
        tar={f"{far:g}": tar_at_far(distances, is_same, far) for far in FARS},
        embedding_norm=float(norms.mean()),
        pairs=len(is_same),
    )


def pair_distances(embeddings: np.ndarray) -> np.ndarray:
    """Return the squared distances, 0 .. 4, of the L2-normalised rows 2i and 2i + 1: (2 * pairs, d) -> (pairs,)."""
    normalized = l2_normalize(embeddings)
    return np.square(normalized[0::2] - normalized[1::2]).sum(axis=1)


def fold_accuracies(
    distances: np.ndarray, is_same: np.ndarray, thresholds: np.ndarray = ACCURACY_THRESHOLDS
) -> FoldAccuracies:
    """Return the accuracy of each fold at the threshold that is best on the other folds.

    `distances`, float (pairs,), and `is_same`, bool (pairs,), are in the order of the set. `thresholds` are candidates,
    ascending; the first of equals is taken.
    """
    counts = _fold_counts(distances, is_same, thresholds)
    right = counts.accepted + counts.rejected  # (folds, thresholds)
    sizes = fold_sizes(len(is_same))
    best = (right.sum(axis=0) - right).argmax(axis=1)
    return FoldAccuracies(right[np.arange(FOLDS), best] / sizes, thresholds[best])


def tar_at_far(
    distances: np.ndarray, is_same: np.ndarray, far: float, thresholds: np.ndarray = TAR_THRESHOLDS
) -> float:
    """Return the true accept rate at a false accept rate, as a mean over the folds.

    The threshold of a fold is the one at which the other nine folds have the wanted false accept rate, 0 .. 1,
    interpolated between the two nearest of `thresholds`, ascending. If no threshold reaches the rate, it is 0. The result
    is NaN if no fold has a pair of one identity.

    `distances`, float (pairs,), and `is_same`, bool (pairs,), are in the order of the set.
    """
    _, same_sizes, rejected, different_sizes = _fold_counts(distances, is_same, thresholds)
    false_accepts = different_sizes[:, None] - rejected
    fold = np.repeat(np.arange(FOLDS), fold_sizes(len(is_same)))
    tars = []
    for index in range(FOLDS):
        others = different_sizes.sum() - different_sizes[index]
        if not same_sizes[index] or not others:
            continue
        fars = (false_accepts.sum(axis=0) - false_accepts[index]) / others
        threshold = np.interp(far, fars, thresholds) if fars[-1] >= far else 0.0
        own = distances[(fold == index) & is_same]
        tars.append((own < threshold).mean())
    return float(np.mean(tars)) if tars else float("nan")


def fold_sizes(count: int) -> np.ndarray:
    """Return the number of pairs in each fold, int (folds,), of `count` pairs in total."""
    sizes = np.full(FOLDS, count // FOLDS)
    sizes[: count % FOLDS] += 1
    return sizes


def _fold_counts(distances: np.ndarray, is_same: np.ndarray, thresholds: np.ndarray) -> _FoldCounts:
    ends = np.cumsum(fold_sizes(len(is_same)))
    accepted: list[np.ndarray] = []
    rejected: list[np.ndarray] = []
    same_sizes: list[int] = []
    different_sizes: list[int] = []
    for part, label in zip(np.split(distances, ends[:-1]), np.split(is_same, ends[:-1])):
        same, different = np.sort(part[label]), np.sort(part[~label])
        # A pair is accepted if its distance is strictly below the threshold.
        accepted.append(np.searchsorted(same, thresholds, side="left"))
        rejected.append(len(different) - np.searchsorted(different, thresholds, side="left"))
        same_sizes.append(len(same))
        different_sizes.append(len(different))
    return _FoldCounts(np.array(accepted), np.array(same_sizes), np.array(rejected), np.array(different_sizes))
