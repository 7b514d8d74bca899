"""All that a verification set says of a network: the lineage's protocol, exact rates, and how sure they are."""

import collections
import dataclasses

import numpy as np

from vargfacenet.eval.protocols import bootstrap
from vargfacenet.eval.protocols.roc import FARS, equal_error_rate, roc_curve, tar_at_far, threshold_at_far
from vargfacenet.eval.protocols.verification import (
    Verification,
    fold_accuracies,
    fold_sizes,
    pair_distances,
    verify_embeddings,
)

Rate = collections.namedtuple("Rate", "far tar low high threshold")
Rate.__doc__ = """A false accept rate, the true accept rate there with its 95% interval, 0 .. 1, and the cosine above which
pairs are accepted; all but the first are None where there are too few pairs to measure it."""

EqualError = collections.namedtuple("EqualError", "rate low high threshold")
EqualError.__doc__ = "The equal error rate with its 95% interval, 0 .. 1, and the cosine at which it is."


@dataclasses.dataclass(frozen=True)
class Detail:
    """What a network and a set of pairs say.

    Attributes
    ----------
    verification : Verification
        The lineage's protocol.
    fold_accuracies, fold_thresholds : float arrays (folds,)
        Of each fold, with the mirror; thresholds are squared distances, 0 .. 4.
    over_folds, over_pairs : tuple of 2 float
        95% intervals of the accuracy, folds or pairs drawn anew, see `vargfacenet.eval.protocols.bootstrap`.
    rates : list of Rate
        At 1e-1 .. 1e-6, over all pairs at once: exact, where `Verification.tar` is a mean over folds, interpolated.
    equal_error : EqualError or None
        None where pairs of one kind are missing.
    curve : Curve or None
        The receiver operating characteristic.
    scores : float array (pairs,)
        Cosines, image and mirror added.
    is_same : bool array (pairs,)
        The truth.
    norms : float array (2 * pairs,)
        Length of each image's embedding as the network gives it, mirror left out.
    """

    verification: Verification
    fold_accuracies: np.ndarray
    fold_thresholds: np.ndarray
    over_folds: tuple
    over_pairs: tuple
    rates: list
    equal_error: EqualError
    curve: object
    scores: np.ndarray
    is_same: np.ndarray
    norms: np.ndarray

    def as_dict(self):
        """The figures as JSON takes them."""
        return {
            **self.verification.as_dict(),
            "accuracy_interval_over_folds": self.over_folds,
            "accuracy_interval_over_pairs": self.over_pairs,
            "fold_accuracies": self.fold_accuracies.tolist(),
            "rates": [rate._asdict() for rate in self.rates],
            "equal_error": self.equal_error and self.equal_error._asdict(),
        }


def verify_in_detail(embeddings, mirrored, is_same, *, fars=FARS, seed=0):
    """Scores embeddings by every measure of pairs.

    Parameters
    ----------
    embeddings, mirrored, is_same
        As of `verify_embeddings`, whose errors are raised.
    fars : sequence of float
        False accept rates, above 0 and below 1.
    seed : int
        Of the resamples.

    Returns
    -------
    Detail
    """
    verification = verify_embeddings(embeddings, mirrored, is_same)
    is_same, embeddings = np.asarray(is_same, bool), np.asarray(embeddings, np.float64)
    distances = pair_distances(embeddings + np.asarray(mirrored, np.float64))
    accuracies, thresholds = fold_accuracies(distances, is_same)
    scores, random = 1 - distances / 2, np.random.RandomState(seed)
    same, different = scores[is_same], scores[~is_same]
    curve = equal_error = None
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


def _rate(same, different, far, random):
    tar = tar_at_far(same, different, far)
    if tar is None:
        return Rate(far, None, None, None, None)
    return Rate(far, tar, *bootstrap.tar_at_far(same, different, far, random), threshold_at_far(different, far))
