"""Templates: sets of images of one person, from several media, compared as one face [IJB-B, IJB-C].

The embedding of a template is the mean over its media of the mean over each medium's images, at length 1: a video of many
frames weighs as much as one photograph (Whitelam et al., "IARPA Janus Benchmark-B", CVPR workshops 2017; pooled as
InsightFace's evaluation does, whose sum over media has the same direction).
"""

import collections
import dataclasses

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols.roc import FARS, threshold_at_far

_ROWS = 8192  # images pooled at a time
_TEMPLATES = 256  # whose pairs are scored at a time

Templates = collections.namedtuple("Templates", "ids embeddings")
Templates.__doc__ = """Numbers of templates (int array (t,), ascending), and their embeddings: float32 array
(t, embedding_size), of length 1; 0 where images cancel each other out."""


@dataclasses.dataclass(frozen=True)
class TemplateVerification:
    """What pairs of templates say.

    Attributes
    ----------
    same, different : int
        Pairs of one person, and of two.
    tar, threshold : dict of str to float
        True accept rate, and the cosine above which a pair is accepted, at each false accept rate, by its text such as
        "1e-05"; None where the pairs are too few for it.
    """

    same: int
    different: int
    tar: dict
    threshold: dict


def pool_templates(embeddings, mirrored, images, templates, media, *, unit=False, scores=None):
    """Embeddings of templates from those of their images.

    Parameters
    ----------
    embeddings : float array (n, d)
        Of images, not normalised; a memory map will do.
    mirrored : float array (n, d) or None
        Of their mirrors, which are added; None to leave them out.
    images, templates, media : int arrays (r,)
        An image's row, the template it is in, and the medium it is from: a number within the template.
    unit : bool
        Whether each image's embedding is brought to length 1 first. Without, an image of longer embedding weighs more,
        which by and large is one of better quality.
    scores : float array (n,), optional
        Weights of the images, such as a face detector's scores, at least 0.

    Returns
    -------
    Templates

    Raises
    ------
    DataError
        Where an embedding is not finite.
    """
    order = np.lexsort((media, templates))
    images, templates, media = (np.asarray(column)[order] for column in (images, templates, media))
    new_template = _changes(templates)
    medium_starts = np.flatnonzero(new_template | _changes(media))
    sizes = np.diff(np.append(medium_starts, len(templates)))
    # A mean of means is one sum in which an image weighs as little as its medium has many.
    weights = np.repeat(1.0 / sizes, sizes)
    if scores is not None:
        weights *= np.asarray(scores)[images]
    place = np.cumsum(new_template) - 1
    pooled = np.zeros((place[-1] + 1, embeddings.shape[1]))
    for begin in range(0, len(images), _ROWS):
        part = slice(begin, begin + _ROWS)
        rows = embeddings[images[part]].astype(np.float64)
        if mirrored is not None:
            rows += mirrored[images[part]]
        if not np.isfinite(rows).all():
            raise DataError("the embeddings hold NaN or infinity: the network is damaged")
        if unit:
            rows = at_length_one(rows)
        rows *= weights[part, None]
        starts = np.flatnonzero(_changes(place[part]))
        pooled[place[part][starts]] += np.add.reduceat(rows, starts)
    return Templates(templates[new_template], at_length_one(pooled).astype(np.float32))


def pair_scores(embeddings, first, second, *, progress=None):
    """Cosines of pairs, by matrix products of some templates at a time with all that they are paired with.

    Parameters
    ----------
    embeddings : float32 array (t, d)
        Of length 1.
    first, second : int arrays (n,)
        Rows of `embeddings`.
    progress : callable, optional
        Called with the number of pairs done since the last call.

    Returns
    -------
    float32 array (n,)
    """
    order = np.argsort(first, kind="stable")
    ends = np.cumsum(np.bincount(first, minlength=len(embeddings)))
    scores = np.empty(len(order), np.float32)
    for begin in range(0, len(embeddings), _TEMPLATES):
        done, end = ends[begin - 1] if begin else 0, ends[min(begin + _TEMPLATES, len(ends)) - 1]
        if done == end:
            continue
        pairs = order[done:end]
        needed = np.zeros(len(embeddings), bool)
        needed[second[pairs]] = True
        column = np.cumsum(needed) - 1
        products = embeddings[begin : begin + _TEMPLATES] @ embeddings[needed].T
        scores[pairs] = products[first[pairs] - begin, column[second[pairs]]]
        if progress:
            progress(len(pairs))
    return scores


def verify_templates(scores, is_same, *, fars=FARS):
    """Rates of scored pairs.

    Parameters
    ----------
    scores, is_same : float array (n,), bool array (n,)
        As of `pair_scores`, and the truth.
    fars : sequence of float
        False accept rates, above 0 and below 1.

    Returns
    -------
    TemplateVerification
    """
    same, different = scores[is_same], scores[~is_same]
    return TemplateVerification(len(same), len(different), *rates_at(same, different, fars))


def rates_at(right, wrong, rates):
    """Of scores that should pass and scores that should not, at rates of the latter that do: two dicts by the rates' text.

    They hold the share of the right ones that pass, and the threshold; None where the scores are too few for a rate.
    """
    thresholds = {f"{rate:g}": threshold_at_far(wrong, rate) for rate in rates}
    shares = {
        rate: None if threshold is None or not len(right) else float((right > threshold).mean())
        for rate, threshold in thresholds.items()
    }
    return shares, thresholds


def _changes(column):
    """Where a value differs from the one before it, or is the first: bool array."""
    return np.concatenate([[True], column[1:] != column[:-1]])


def at_length_one(rows):
    """Rows, float array (n, d), divided by their lengths; one of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)
