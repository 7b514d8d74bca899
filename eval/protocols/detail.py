"""All rates of a verification set: the lineage's protocol, exact rates over all pairs, and their 95% intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.eval.protocols import bootstrap
from vargfacenet.eval.protocols.bootstrap import Interval
from vargfacenet.eval.protocols.roc import FARS, Curve, equal_error_rate, roc_curve, tar_at_far, threshold_at_far
from vargfacenet.eval.protocols.verification import (
    Verification,
    fold_accuracies,
    fold_sizes,
    pair_distances,
    verify_embeddings,
)


class Rate(NamedTuple):
    """TAR at a FAR with its 95% interval; all fields but the first are None if the pairs are too few to measure it."""

    far: float
    tar: float | None
    low: float | None
    high: float | None
    threshold: float | None  # pairs with a cosine strictly above it are accepted


class EqualError(NamedTuple):
    """Equal error rate with its 95% interval, and its threshold, a cosine."""

    rate: float
    low: float
    high: float
    threshold: float


@dataclasses.dataclass(frozen=True)
class Detail:
    """All rates of a network on a verification set."""

    verification: Verification  # the lineage's protocol
    fold_accuracies: np.ndarray  # float (folds,), with the mirror
    fold_thresholds: np.ndarray  # float (folds,): squared distances, 0 .. 4
    over_folds: Interval  # of the accuracy, folds resampled
    over_pairs: Interval  # of the accuracy, pairs resampled
    rates: list[Rate]  # exact over all pairs at once; `Verification.tar` is an interpolated mean over folds
    equal_error: EqualError | None  # None if one kind of pairs is missing
    curve: Curve | None  # receiver operating characteristic
    scores: np.ndarray  # float (pairs,): cosines, image and mirror added
    is_same: np.ndarray  # bool (pairs,)
    norms: np.ndarray  # float (2 * pairs,): L2 norm of each image's embedding, without the mirror

    def as_dict(self) -> dict[str, Any]:
        """Return the rates for JSON."""
        return {
            **self.verification.as_dict(),
            "accuracy_interval_over_folds": self.over_folds,
            "accuracy_interval_over_pairs": self.over_pairs,
            "fold_accuracies": self.fold_accuracies.tolist(),
            "rates": [rate._asdict() for rate in self.rates],
            "equal_error": self.equal_error and self.equal_error._asdict(),
        }


def verify_in_detail(
    embeddings: np.ndarray,
    mirrored: np.ndarray,
    is_same: np.ndarray,
    *,
    fars: Sequence[float] = FARS,
    seed: int = 0,
) -> Detail:
    """Compute all rates of the embeddings of a verification set.

    For the first three parameters, and errors, see `verify_embeddings`. `fars` are false accept rates, above 0 and below
    1; `seed` is the seed of the resamples.
    """
    verification = verify_embeddings(embeddings, mirrored, is_same)
    is_same, embeddings = np.asarray(is_same, bool), np.asarray(embeddings, np.float64)
    distances = pair_distances(embeddings + np.asarray(mirrored, np.float64))
    accuracies, thresholds = fold_accuracies(distances, is_same)
    scores, random = 1 - distances / 2, np.random.RandomState(seed)
    same, different = scores[is_same], scores[~is_same]
    curve: Curve | None = None
    equal_error: EqualError | None = None
    if len(same) and len(different):
        curve = roc_curve(same, different)
        rate, threshold = equal_error_rate(curve)
        equal_error = EqualError(rate, *bootstrap.equal_error_rate(same, different, curve, random), threshold)
    return Detail(
        verification=verification,
        fold_accuracies=accuracies,
        fold_thresholds=thresholds,
        over_folds=bootstrap.accuracy_over_folds(accuracies, random),
        over_pairs=bootstrap.accuracy_over_pairs(accuracies, fold_sizes(len(is_same)), random),
        rates=[_rate(same, different, far, random) for far in fars],
        equal_error=equal_error,
        curve=curve,
        scores=scores,
        is_same=is_same,
        norms=np.linalg.norm(embeddings, axis=1),
    )


def _rate(same: np.ndarray, different: np.ndarray, far: float, random: np.random.RandomState) -> Rate:
    tar = tar_at_far(same, different, far)
    if tar is None:
        return Rate(far, None, None, None, None)
    return Rate(far, tar, *bootstrap.tar_at_far(same, different, far, random), threshold_at_far(different, far))
