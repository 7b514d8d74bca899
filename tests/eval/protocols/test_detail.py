"""Rates and intervals of verification, compared with plain resampling and known results."""

import json

import numpy as np
import pytest
import sklearn.metrics

from tests.helpers.embeddings import make_pair_embeddings
from vargfacenet.eval.protocols import bootstrap
from vargfacenet.eval.protocols.detail import verify_in_detail
from vargfacenet.eval.protocols.roc import equal_error_rate, roc_curve, tar_at_far
from vargfacenet.eval.protocols.verification import verify_embeddings


@pytest.fixture(scope="module")
def detail():
    embeddings, is_same = make_pair_embeddings(600, 1.0)
    return verify_in_detail(embeddings, embeddings, is_same)


def scores(seed=0):
    random = np.random.RandomState(seed)
    return random.normal(0.5, 0.2, 300), random.normal(0.1, 0.2, 400)


def resampled(statistic, *samples, count=3000):
    """Return the interval of a statistic by resampling whole samples."""
    random = np.random.RandomState(1)
    found = [
        statistic(*(sample[random.randint(len(sample), size=len(sample))] for sample in samples)) for _ in range(count)
    ]
    return np.percentile(found, [2.5, 97.5])


def test_detail_includes_the_protocol_of_the_lineage(detail):
    embeddings, is_same = make_pair_embeddings(600, 1.0)
    assert detail.verification == verify_embeddings(embeddings, embeddings, is_same)
    assert detail.fold_accuracies.mean() == pytest.approx(detail.verification.accuracy)
    assert detail.fold_thresholds.mean() == pytest.approx(detail.verification.threshold)
    np.testing.assert_allclose(detail.norms, np.linalg.norm(embeddings, axis=1))


def test_scores_are_cosines(detail):
    embeddings, _ = make_pair_embeddings(600, 1.0)
    expected = sklearn.metrics.pairwise.cosine_similarity(embeddings[:2])[0, 1]
    assert detail.scores[0] == pytest.approx(expected)


def test_rates_reach_as_far_as_the_pairs_allow(detail):
    measured = {rate.far: rate.tar for rate in detail.rates}
    assert list(measured) == [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    assert [far for far, tar in measured.items() if tar is None] == [1e-3, 1e-4, 1e-5, 1e-6]  # of 300 pairs
    same, different = detail.scores[detail.is_same], detail.scores[~detail.is_same]
    assert measured[0.01] == tar_at_far(same, different, 0.01)
    for rate in detail.rates[:2]:
        assert rate.low <= rate.tar <= rate.high
        assert (different > rate.threshold).mean() <= rate.far


def test_curve_is_scikit_learns(detail):
    far, tar, _ = sklearn.metrics.roc_curve(detail.is_same, detail.scores, drop_intermediate=False)
    np.testing.assert_allclose(np.interp(far, detail.curve.far, detail.curve.far), far)
    assert sklearn.metrics.auc(detail.curve.far, detail.curve.tar) == pytest.approx(sklearn.metrics.auc(far, tar))


def test_equal_error_lies_within_its_interval(detail):
    equal = detail.equal_error
    assert equal.low < equal.rate < equal.high
    same, different = detail.scores[detail.is_same], detail.scores[~detail.is_same]
    assert (same <= equal.threshold).mean() == pytest.approx(equal.rate, abs=0.01)
    assert (different > equal.threshold).mean() == pytest.approx(equal.rate, abs=0.01)


def test_interval_of_the_tar_is_that_of_whole_resamples():
    same, different = scores()
    found = bootstrap.tar_at_far(same, different, 0.05, np.random.RandomState(0), 3000)
    expected = resampled(lambda s, d: tar_at_far(s, d, 0.05), same, different)
    np.testing.assert_allclose(found, expected, atol=0.015)


def test_interval_of_the_equal_error_is_that_of_whole_resamples():
    same, different = scores()
    curve = roc_curve(same, different)
    found = bootstrap.equal_error_rate(same, different, curve, np.random.RandomState(0), 2000)
    expected = resampled(lambda s, d: equal_error_rate(roc_curve(s, d))[0], same, different, count=2000)
    np.testing.assert_allclose(found, expected, atol=0.006)


def test_interval_of_the_accuracy_is_that_of_whole_resamples():
    sizes, accuracies = np.full(10, 60), np.linspace(0.8, 0.95, 10)
    found = bootstrap.accuracy_over_pairs(accuracies, sizes, np.random.RandomState(0), 4000)
    folds = [np.arange(60) < round(60 * accuracy) for accuracy in accuracies]
    expected = resampled(lambda *parts: np.mean([part.mean() for part in parts]), *folds)
    np.testing.assert_allclose(found, expected, atol=0.004)
    over_folds = bootstrap.accuracy_over_folds(accuracies, np.random.RandomState(0), 4000)
    np.testing.assert_allclose(over_folds, resampled(np.mean, accuracies), atol=0.004)


def test_intervals_shrink_with_the_number_of_pairs():
    widths = []
    for pairs in (200, 3200):
        embeddings, is_same = make_pair_embeddings(pairs, 1.0)
        low, high = verify_in_detail(embeddings, embeddings, is_same).over_pairs
        widths.append(high - low)
    assert widths[1] < 0.4 * widths[0]


def test_the_same_seed_gives_the_same_intervals(detail):
    embeddings, is_same = make_pair_embeddings(600, 1.0)
    assert verify_in_detail(embeddings, embeddings, is_same).as_dict() == detail.as_dict()


def test_json_holds_no_nan(detail):
    text = json.dumps(detail.as_dict(), allow_nan=False)
    assert json.loads(text)["rates"][5] == {"far": 1e-6, "tar": None, "low": None, "high": None, "threshold": None}


def test_pairs_of_one_kind_alone_have_no_rates():
    embeddings, _ = make_pair_embeddings(100, 1.0)
    found = verify_in_detail(embeddings, embeddings, np.ones(100, bool))
    assert found.equal_error is found.curve is None
    assert all(rate.tar is None for rate in found.rates)
