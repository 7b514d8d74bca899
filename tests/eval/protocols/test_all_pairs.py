"""Rates over all pairs compared with a count of one pair at a time."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.protocols import all_pairs, most_similar
from vargfacenet.eval.protocols.all_pairs import DISTRACTOR, score_all_pairs

FARS = (1e-4, 1e-3, 0.01, 0.05, 0.3)


def faces(count, identities, seed, *, size=8, poses=40):
    """Features in few poses, so that many pairs tie; some faces are distractors."""
    random = np.random.RandomState(seed)
    pool = random.normal(size=(poses, size)).astype(np.float32)
    features = pool[random.randint(poses, size=count)] * 2.0 ** random.randint(-3, 4, (count, 1))
    return features.astype(np.float32), random.randint(DISTRACTOR, identities, count)


def counted(features, labels, others=None, other_labels=None):
    """Return scores of pairs of one identity and of different identities, pair by pair."""
    if others is None:
        pairs = itertools.combinations(range(len(features)), 2)
        others, other_labels = features, labels
    else:
        pairs = itertools.product(range(len(features)), range(len(others)))
    same, different = [], []
    for i, j in pairs:
        a, b = features[i].astype(np.float64), others[j].astype(np.float64)
        score = round(math.fsum(a * b) / math.sqrt(math.fsum(a * a) * math.fsum(b * b)), 12)
        (same if labels[i] == other_labels[j] != DISTRACTOR else different).append(score)
    return np.array(same), np.array(different)


@pytest.mark.parametrize("lists", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_count_of_each_pair_with_ties(monkeypatch, lists, seed):
    # Blocks that do not divide the lists, and a sample that is too small to guess well.
    for name, value in (("_TASK", 24), ("_SWEEP", 56), ("_ROWS", 7), ("_COLUMNS", 13), ("_SAMPLE", 20)):
        monkeypatch.setattr(most_similar, name, value)
    given = [part for number in range(lists) for part in faces(90 + 20 * number, 12, seed + 10 * number)]
    found = score_all_pairs(*given, fars=FARS, worst=5)
    same, different = counted(*given)
    assert (found.same, found.different) == (len(same), len(different))
    for far, rate in zip(FARS, found.rates):
        allowed = int(far * len(different))
        if not allowed:
            assert rate == (far, None, None, None, None)
            continue
        threshold = np.sort(different)[::-1][allowed]
        assert rate.threshold == threshold
        assert rate.accepted_same == (same > threshold).sum()
        assert rate.accepted_different == (different > threshold).sum() <= allowed
        assert rate.tar == rate.accepted_same / len(same)
    assert [score for score, _, _ in found.worst] == np.sort(different)[::-1][:5].tolist()


def test_scores_closer_than_float32_are_told_apart():
    # Angles whose cosines differ by 1e-9: in float32 they are one number.
    cosines = 0.5 + 1e-9 * np.arange(40)
    first = np.array([[1.0, 0.0]])
    others = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    labels = np.where(np.arange(40) % 2, 7, DISTRACTOR)  # every second face has the identity of the first list
    found = score_all_pairs(first, np.array([7]), others, labels, fars=(0.1,), worst=1)
    assert found.rates[0].threshold == pytest.approx(cosines[34], abs=1e-12)  # two of twenty may lie above
    assert (found.rates[0].accepted_same, found.rates[0].accepted_different) == (3, 2)
    assert found.worst[0][2] == 38


def test_worst_names_the_rows():
    features = np.eye(5, dtype=np.float32)
    features[4] = features[1] * 3
    found = score_all_pairs(features, np.arange(5), worst=1)
    assert found.worst == [(1.0, 1, 4)]


def test_does_not_depend_on_blocks(monkeypatch):
    features, labels = faces(300, 30, 5, size=64, poses=250)
    whole = score_all_pairs(features, labels, fars=FARS)
    monkeypatch.setattr(most_similar, "_COLUMNS", 31)
    monkeypatch.setattr(most_similar, "_ROWS", 17)
    assert score_all_pairs(features, labels, fars=FARS) == whole


def test_a_floor_that_is_too_high_is_lowered(monkeypatch):
    features, labels = faces(120, 12, 3)
    expected = score_all_pairs(features, labels, fars=FARS)
    monkeypatch.setattr(most_similar, "_floors", lambda *_: iter([0.999, -np.inf]))
    assert score_all_pairs(features, labels, fars=FARS) == expected


@pytest.mark.parametrize("seed", range(6))
def test_all_ties_at_the_floor_are_considered(seed):
    """Few vectors, many times: the floor that the sample gives is the score of many pairs."""
    features, labels = faces(300, 40, seed, size=24, poses=8)
    _, different = counted(features, labels)
    found = score_all_pairs(features, labels, fars=(1e-3, 0.02), worst=40)
    assert [score for score, _, _ in found.worst] == np.sort(different)[::-1][:40].tolist()
    first = [(i, j) for i, j in itertools.combinations(range(300), 2) if not labels[i] == labels[j] != DISTRACTOR]
    order = np.lexsort(([j for _, j in first], [i for i, _ in first], -different))[:40]
    assert [(i, j) for _, i, j in found.worst] == [first[at] for at in order]


def test_many_images_of_one_identity_take_little_memory():
    features, labels = np.ones((3000, 8), np.float32), np.zeros(3000, np.int64)
    features[0], labels[0] = np.arange(8), 1
    tracemalloc.start()
    rate = score_all_pairs(features, labels, fars=(0.5,)).rates[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rate.accepted_same == 2999 * 2998 // 2
    assert peak < 250 << 20


def test_a_rate_that_accepts_all_is_not_measurable():
    features, labels = faces(20, 5, 0)
    assert score_all_pairs(features, labels, fars=(0.9999999999999,)).rates[0].tar is None


def test_progress_counts_every_pair_once(monkeypatch):
    monkeypatch.setattr(most_similar, "_ROWS", 7)
    features, labels = faces(100, 12, 3)
    done = []
    score_all_pairs(features, labels, fars=FARS, progress=done.append)
    assert sum(done) == 100 * 99 // 2


def test_collapsed_embeddings_are_refused(monkeypatch):
    features, labels = np.ones((2000, 4), np.float32), np.arange(2000)
    monkeypatch.setattr(most_similar, "_SAMPLE", 4)
    with pytest.raises(DataError, match="the embeddings have collapsed"):
        score_all_pairs(features, labels, fars=(1e-4,))


def test_mismatched_lists_are_refused():
    features, labels = faces(30, 5, 0)
    with pytest.raises(DataError, match="features of 8 and 7 numbers"):
        score_all_pairs(features, labels, features[:, :7], labels)
    with pytest.raises(DataError, match="the second list needs both features and labels"):
        score_all_pairs(np.ones((2, 8), np.float32), np.zeros(2, int), np.ones((2, 8), np.float32))
    with pytest.raises(DataError, match="the first list: features of shape"):
        score_all_pairs(features, labels[1:], features, labels)
    with pytest.raises(SettingError, match="far=0: expected a rate above 0"):
        score_all_pairs(features, labels, fars=(0,))
    broken = features.copy()
    broken[17] = 0
    with pytest.raises(DataError, match="the list: row 17 is zero or not finite"):
        score_all_pairs(broken, labels)


def test_a_rate_that_accepts_too_many_is_refused(monkeypatch):
    monkeypatch.setattr(all_pairs, "MOST_ACCEPTED", 10)
    features, labels = faces(60, 5, 0)
    with pytest.raises(SettingError, match=r"at most 10 are kept; give a rate of .* or less"):
        score_all_pairs(features, labels, fars=(0.1,))
