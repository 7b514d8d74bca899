"""Search of faces among known people: rank-k, and true positive identification rate at a false positive one.

A probe is mated where its person is in the gallery. Its rank is one more than the number of other people who score as high
as its own person or higher: of ties the worst is taken, and scores within 5e-7, which float32 does not tell apart, are
ties. A probe that is not mated raises a false alarm where its highest score is strictly above the threshold; FPIR is the
share of these that do, and TPIR the share of mated probes whose own person is at rank 1 and strictly above the threshold
(1 - FNIR of NIST's FRVT 1:N, NISTIR 8271, with one candidate; the open-set measure of IJB-B and IJB-C, Maze et al., ICB
2018).
"""

import collections
import dataclasses

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols.templates import at_length_one, pool_templates, rates_at
from vargfacenet.options import unknown

RANKS = (1, 5, 10)
FPIRS = (1e-1, 1e-2, 1e-3)
MEAN, NEAREST = ENTRIES = ("mean", "nearest")
_TIE = np.float32(5e-7)
_SCORES = 1 << 24  # held at a time: 64 MiB of float32

Search = collections.namedtuple("Search", "rank score people")
Search.__doc__ = """What a search found of each probe: its rank (int64 array, from 1; 0 where it is not mated), and the score of
its own person, or where it is not mated the highest (float32 array). Also the number of people in the gallery."""


@dataclasses.dataclass(frozen=True)
class Identification:
    """Rates of a search.

    Attributes
    ----------
    people, mated, strangers : int
        People in the gallery, probes of theirs, and probes of others.
    rank : dict of str to float
        Share of the mated probes whose rank is that or better, by its text such as "5"; None where none is mated.
    tpir, threshold : dict of str to float
        Rate and threshold at each FPIR, by its text such as "0.01"; None where the probes are too few for it.
    """

    people: int
    mated: int
    strangers: int
    rank: dict
    tpir: dict
    threshold: dict


def gallery_entries(embeddings, people, by=MEAN):
    """What a gallery holds of people with several images each.

    Parameters
    ----------
    embeddings : float array (n, d)
        Of images, image and mirror added.
    people : array (n,)
        Whose they are: numbers or texts.
    by : str
        ``mean``: one entry a person, the mean of their images' embeddings at length 1, itself at length 1. ``nearest``: each
        image is an entry, of which in a search the nearest counts.

    Returns
    -------
    entries, people : float32 array (entries, d), array (entries,)

    Raises
    ------
    SettingError
        For another `by`.
    DataError
        Where an embedding is not finite.
    """
    if by not in ENTRIES:
        raise unknown("kind of gallery", by, ENTRIES)
    names, person = np.unique(people, return_inverse=True)
    each = np.arange(len(person))
    if by == NEAREST:
        return at_length_one(np.asarray(embeddings, np.float32)), np.asarray(people)
    return pool_templates(embeddings, None, each, person, each, unit=True).embeddings, names


def search(probes, probe_people, gallery, gallery_people, *, progress=None):
    """Compares probes with everyone in a gallery; a person's score is that of the nearest of their entries.

    Parameters
    ----------
    probes, gallery : float arrays (p, d), (g, d)
        Embeddings; a score is their product, in float32, so the cosine for those of length 1.
    probe_people, gallery_people : arrays (p,), (g,)
        Whose they are: numbers or texts.
    progress : callable, optional
        Called with the number of probes done since the last call.

    Returns
    -------
    Search

    Raises
    ------
    DataError
        Where either side is empty, the embeddings differ in size, or one is not finite.
    """
    probes, gallery = np.asarray(probes, np.float32), np.asarray(gallery, np.float32)
    for name, embeddings in (("probes", probes), ("gallery", gallery)):
        if not embeddings.size:
            raise DataError(f"{name}: no faces; a search needs some on either side")
        if not np.isfinite(embeddings).all():
            raise DataError(f"the embeddings of the {name} hold NaN or infinity: the network is damaged")
    if probes.shape[1] != gallery.shape[1]:
        raise DataError(
            f"probes have {probes.shape[1]} numbers each, the gallery {gallery.shape[1]}: expected one network"
        )
    people, person = np.unique(gallery_people, return_inverse=True)
    order = np.argsort(person, kind="stable")
    gallery, starts = gallery[order], np.searchsorted(person[order], np.arange(len(people)))
    own = np.minimum(np.searchsorted(people, probe_people), len(people) - 1)
    mated = people[own] == np.asarray(probe_people)
    rank, score = np.zeros(len(probes), np.int64), np.empty(len(probes), np.float32)
    step = max(1, _SCORES // len(gallery))
    for begin in range(0, len(probes), step):
        part = slice(begin, begin + step)
        scores = probes[part] @ gallery.T  # (step, entries)
        if len(people) < len(gallery):
            scores = np.maximum.reduceat(scores, starts, axis=1)  # (step, people)
        mates = np.take_along_axis(scores, own[part, None], axis=1)
        rank[part] = np.where(mated[part], np.count_nonzero(scores >= mates - _TIE, axis=1), 0)
        score[part] = np.where(mated[part], mates[:, 0], scores.max(axis=1))
        if progress:
            progress(len(scores))
    return Search(rank, score, len(people))


def identification(found, *, ranks=RANKS, fpirs=FPIRS):
    """The rates of a search.

    Parameters
    ----------
    found : Search
        As of `search`.
    ranks : sequence of int
        From 1 on.
    fpirs : sequence of float
        Above 0 and below 1.

    Returns
    -------
    Identification
    """
    mated = found.rank > 0
    first = np.where(found.rank == 1, found.score, -np.inf)[mated]
    others = found.score[~mated]
    curve = cumulative_matches(found, max(ranks))
    rank = {str(rank): None if curve is None else float(curve[rank - 1]) for rank in ranks}
    return Identification(found.people, len(first), len(others), rank, *rates_at(first, others, fpirs))


def cumulative_matches(found, upto):
    """The cumulative match characteristic: shares of mated probes of rank 1 .. `upto` or better, float64 (upto,).

    None where no probe is mated.
    """
    ranks = found.rank[found.rank > 0]
    if not len(ranks):
        return None
    return np.cumsum(np.bincount(np.minimum(ranks, upto + 1), minlength=upto + 2)[1 : upto + 1]) / len(ranks)


def mean_rates(several):
    """The mean over galleries of rank and TPIR (list of Identification): two dicts; None where it is None of one."""
    return tuple(
        {
            key: None if any(rates[key] is None for rates in each) else float(np.mean([rates[key] for rates in each]))
            for key in each[0]
        }
        for each in ([one.rank for one in several], [one.tpir for one in several])
    )
