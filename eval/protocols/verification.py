"""The verification protocol of the lineage, on embeddings alone.

Squared distances of unit embeddings; ten folds in order, unshuffled; the threshold best on nine folds (the first of
equals) scores the tenth [LFW's protocol as InsightFace computes it].
"""

import dataclasses

import numpy as np

from vargfacenet.errors import DataError

FOLDS = 10
ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
TAR_THRESHOLDS = np.arange(0, 4, 0.001)
FARS = (0.1, 0.01, 0.001)


@dataclasses.dataclass(frozen=True)
class Verification:
    """What the protocol says of a network and a set of pairs.

    Attributes
    ----------
    accuracy, std : float
        Mean and standard deviation over the folds, embeddings of image and mirror added.
    accuracy_no_flip, std_no_flip : float
        The same without the mirror.
    threshold : float
        Mean over the folds of the squared distance, 0 .. 4, below which two faces are one person.
    tar : dict of str to float
        True accept rate at each false accept rate, by its text such as "0.001".
    embedding_norm : float
        Mean length of the embeddings as the network gives them, mirrored ones included.
    pairs : int
        Number of pairs.
    """

    accuracy: float
    std: float
    accuracy_no_flip: float
    std_no_flip: float
    threshold: float
    tar: dict
    embedding_norm: float
    pairs: int

    def as_dict(self):
        """The fields as JSON takes them: a rate that is not a number becomes None."""
        fields = dataclasses.asdict(self)
        fields["tar"] = {far: None if np.isnan(value) else value for far, value in self.tar.items()}
        return fields


def verify_embeddings(embeddings, mirrored, is_same):
    """Scores embeddings by the protocol.

    Parameters
    ----------
    embeddings, mirrored : float array (2 * pairs, embedding_size)
        Of the images and of their mirrors, not normalised; rows 2i and 2i + 1 are pair i.
    is_same : bool array (pairs,)
        Whether a pair shows one person.

    Returns
    -------
    Verification

    Raises
    ------
    DataError
        Where there are fewer pairs than folds, or the embeddings hold NaN or infinity.
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


def pair_distances(embeddings):
    """Squared distances, 0 .. 4, of the normalised rows 2i and 2i + 1: (2 * pairs, d) -> (pairs,)."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(norms == 0, 1, norms)
    return np.square(unit[0::2] - unit[1::2]).sum(axis=1)


def fold_accuracies(distances, is_same, thresholds=ACCURACY_THRESHOLDS):
    """Accuracy of each fold at the threshold that is best on the others.

    Parameters
    ----------
    distances, is_same : float array (pairs,), bool array (pairs,)
        Squared distances and truth, in the order of the set.
    thresholds : float array
        Candidates, ascending; of equals the first is taken.

    Returns
    -------
    accuracies, thresholds : float arrays (folds,)
    """
    accepted, _, rejected, _ = _fold_counts(distances, is_same, thresholds)
    right = accepted + rejected  # (folds, thresholds)
    sizes = fold_sizes(len(is_same))
    best = (right.sum(axis=0) - right).argmax(axis=1)
    return right[np.arange(FOLDS), best] / sizes, thresholds[best]


def tar_at_far(distances, is_same, far, thresholds=TAR_THRESHOLDS):
    """True accept rate at a false accept rate.

    In each fold the threshold at which the other nine have the wanted false accept rate, interpolated between the two
    nearest, is applied; the mean over the folds is given. Where no threshold reaches the rate, 0 is the threshold.

    Parameters
    ----------
    distances, is_same : float array (pairs,), bool array (pairs,)
        Squared distances and truth, in the order of the set.
    far : float
        The false accept rate wanted, 0 .. 1.
    thresholds : float array
        Candidates, ascending.

    Returns
    -------
    float
        0 .. 1; NaN where no fold has a pair of one person.
    """
    _, same_sizes, kept_out, different_sizes = _fold_counts(distances, is_same, thresholds)
    let_in = different_sizes[:, None] - kept_out
    fold = np.repeat(np.arange(FOLDS), fold_sizes(len(is_same)))
    tars = []
    for index in range(FOLDS):
        others = different_sizes.sum() - different_sizes[index]
        if not same_sizes[index] or not others:
            continue
        fars = (let_in.sum(axis=0) - let_in[index]) / others
        threshold = np.interp(far, fars, thresholds) if fars[-1] >= far else 0.0
        own = distances[(fold == index) & is_same]
        tars.append((own < threshold).mean())
    return float(np.mean(tars)) if tars else float("nan")


def fold_sizes(count):
    """Pairs in each fold, of `count` in all: int array (folds,)."""
    sizes = np.full(FOLDS, count // FOLDS)
    sizes[: count % FOLDS] += 1
    return sizes


def _fold_counts(distances, is_same, thresholds):
    """By fold and threshold, same pairs accepted and different pairs rejected, each with its number a fold."""
    ends = np.cumsum(fold_sizes(len(is_same)))
    accepted, rejected, same_sizes, different_sizes = [], [], [], []
    for part, truth in zip(np.split(distances, ends[:-1]), np.split(is_same, ends[:-1])):
        same, different = np.sort(part[truth]), np.sort(part[~truth])
        # Accepted is strictly below the threshold.
        accepted.append(np.searchsorted(same, thresholds, side="left"))
        rejected.append(len(different) - np.searchsorted(different, thresholds, side="left"))
        same_sizes.append(len(same))
        different_sizes.append(len(different))
    return np.array(accepted), np.array(same_sizes), np.array(rejected), np.array(different_sizes)
