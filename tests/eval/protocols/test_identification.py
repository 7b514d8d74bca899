"""Search compared with a plain computation, probe by probe."""

import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols import identification as module
from vargfacenet.eval.protocols.identification import (
    Identification,
    cumulative_matches,
    identification,
    mean_rates,
    search,
)


def probes_and_gallery(seed, probes=60, entries=25, gallery_identities=9, unknown=4):
    """Small whole numbers, whose products float32 holds exactly, with many ties."""
    random = np.random.RandomState(seed)
    gallery = random.randint(-2, 3, (entries, 4))
    gallery_of = np.concatenate(
        [np.arange(gallery_identities), random.randint(0, gallery_identities, entries - gallery_identities)]
    )
    faces = random.randint(-2, 3, (probes, 4))
    return faces, random.randint(0, gallery_identities + unknown, probes), gallery, random.permutation(gallery_of)


def plainly(faces, faces_of, gallery, gallery_of):
    """Rank (None where not mated), score of its own identity, and the highest, by their definitions."""
    outcomes = []
    for face, identity in zip(faces.tolist(), faces_of.tolist()):
        best = {}
        for entry, other in zip(gallery.tolist(), gallery_of.tolist()):
            score = sum(a * b for a, b in zip(face, entry))
            best[other] = max(score, best.get(other, score))
        own = best.pop(identity, None)
        rank = None if own is None else 1 + sum(score >= own for score in best.values())
        outcomes.append((rank, own, max(best.values())))
    return outcomes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("held", [1, 130, 1 << 24])
def test_search_equals_the_plain_computation_with_ties(seed, held, monkeypatch):
    monkeypatch.setattr(module, "_SCORES", held)
    given = probes_and_gallery(seed)
    found = search(*given)
    expected = plainly(*given)
    assert found.rank.tolist() == [rank or 0 for rank, _, _ in expected]
    assert found.score.tolist() == [top if rank is None else own for rank, own, top in expected]
    assert found.identities == 9
    assert any(rank is None for rank, _, _ in expected)


@pytest.mark.parametrize("seed", range(4))
def test_rates_equal_counts_at_the_smallest_threshold_allowed(seed):
    given = probes_and_gallery(seed, probes=200)
    rates = identification(search(*given), ranks=(1, 2, 5), fpirs=(0.5, 0.2, 0.05))
    expected = plainly(*given)
    mated = [(rank, own) for rank, own, _ in expected if rank]
    alarms = [top for rank, _, top in expected if not rank]
    assert (rates.identities, rates.mated, rates.non_mated) == (9, len(mated), len(alarms))
    for rank in (1, 2, 5):
        assert rates.rank[str(rank)] == pytest.approx(sum(one <= rank for one, _ in mated) / len(mated), abs=1e-12)
    for fpir in (0.5, 0.2, 0.05):
        allowed = [t for t in sorted(set(alarms)) if sum(top > t for top in alarms) <= fpir * len(alarms)]
        assert rates.threshold[f"{fpir:g}"] == allowed[0]
        hits = sum(rank == 1 and own > allowed[0] for rank, own in mated)
        assert rates.tpir[f"{fpir:g}"] == pytest.approx(hits / len(mated), abs=1e-12)


def test_a_tie_with_another_identity_is_not_rank_1():
    gallery = np.array([[1.0, 0], [1, 0], [0, 1]])
    found = search(np.array([[1.0, 0], [0, 1]]), ["a", "c"], gallery, ["a", "b", "c"])
    assert found.rank.tolist() == [2, 1]


def test_entries_of_one_identity_do_not_lower_each_others_rank():
    found = search(np.array([[1.0, 0]]), [7], np.array([[1.0, 0], [1, 0], [0.5, 0]]), [7, 7, 8])
    assert (found.rank.tolist(), found.identities) == ([1], 2)


def test_rates_that_cannot_be_measured_are_none():
    gallery = np.eye(3)
    everyone_known = identification(search(np.eye(3), [0, 1, 2], gallery, [0, 1, 2]))
    assert set(everyone_known.tpir.values()) == {None}
    assert everyone_known.rank == {"1": 1, "5": 1, "10": 1}
    no_one_known = identification(search(np.eye(3), [5, 6, 7], gallery, [0, 1, 2]), fpirs=(0.4, 0.3))
    assert set(no_one_known.rank.values()) == {None}
    assert no_one_known.threshold == {"0.4": 1, "0.3": None}
    assert no_one_known.tpir == {"0.4": None, "0.3": None}


def test_cumulative_matches_of_known_ranks():
    found = module.SearchResult(np.array([1, 3, 0, 2, 9, 1]), np.zeros(6, np.float32), 12)
    np.testing.assert_allclose(cumulative_matches(found, 4), [0.4, 0.6, 0.8, 0.8])


def test_mean_over_galleries_is_none_where_one_is():
    one = Identification(2, 2, 2, {"1": 0.5}, {"0.1": 0.25, "0.01": None}, {})
    other = Identification(2, 2, 2, {"1": 1.0}, {"0.1": 0.75, "0.01": 0.5}, {})
    assert mean_rates([one, other]) == ({"1": 0.75}, {"0.1": 0.5, "0.01": None})


@pytest.mark.parametrize(
    ("probes", "gallery", "message"),
    [
        (np.zeros((0, 2)), np.ones((1, 2)), "probes: no faces"),
        (np.ones((1, 2)), np.zeros((0, 2)), "gallery: no faces"),
        (np.ones((1, 2)), np.ones((1, 3)), "have 2 numbers, those of the gallery 3"),
        (np.full((1, 2), np.nan), np.ones((1, 2)), "probes hold NaN"),
    ],
)
def test_embeddings_that_cannot_be_searched_are_refused(probes, gallery, message):
    with pytest.raises(DataError, match=message):
        search(probes, [0] * len(probes), gallery, [0] * len(gallery))
