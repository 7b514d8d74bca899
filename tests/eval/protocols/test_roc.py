"""Rates compared with counts of one pair at a time."""

import numpy as np
import pytest

from vargfacenet.eval.protocols.roc import equal_error_rate, roc_curve, tar_at_far, threshold_at_far


@pytest.fixture(params=[0, 1, 2])
def scores(request):
    """Scores with many ties."""
    random = np.random.RandomState(request.param)
    return random.randint(3, 12, 70) / 8, random.randint(0, 9, 90) / 8


def accepted(values, threshold):
    return sum(value > threshold for value in values) / len(values)


@pytest.mark.parametrize("far", [0.011, 0.05, 0.1, 0.5, 0.99])
def test_the_threshold_is_the_smallest_that_the_rate_allows(scores, far):
    _, different = scores
    threshold = threshold_at_far(different, far)
    if far * len(different) < 1:
        assert threshold is None
        return
    assert accepted(different, threshold) <= far
    lower = [value for value in set(different.tolist()) if value < threshold] or [-1.0]
    assert accepted(different, max(lower)) > far


def test_tar_is_the_share_above_that_threshold(scores):
    same, different = scores
    assert tar_at_far(same, different, 0.1) == accepted(same, threshold_at_far(different, 0.1))


def test_a_rate_of_less_than_one_pair_is_not_measurable(scores):
    same, different = scores
    assert tar_at_far(same, different, 1 / 90) is not None
    assert tar_at_far(same, different, 1 / 91) is None
    assert tar_at_far(same[:0], different, 0.1) is None


def test_a_product_that_rounds_down_still_allows_its_whole_pairs():
    assert 0.29 * 100 < 29  # in binary
    assert threshold_at_far(np.arange(100.0), 0.29) == 70


def test_curve_counts_each_threshold(scores):
    same, different = scores
    curve = roc_curve(same, different)
    assert (curve.far[0], curve.tar[0], curve.far[-1], curve.tar[-1]) == (0, 0, 1, 1)
    for threshold, far, tar in zip(*curve):
        assert far == pytest.approx(accepted(different, threshold), abs=1e-12)
        assert tar == pytest.approx(accepted(same, threshold), abs=1e-12)


def test_equal_error_rate_lies_between_the_two_rates_around_it(scores):
    same, different = scores
    rate, threshold = equal_error_rate(roc_curve(same, different))
    false_accepts, false_rejects = accepted(different, threshold), 1 - accepted(same, threshold)
    assert false_accepts <= rate <= false_rejects


def test_equal_error_rate_of_separate_and_of_swapped_scores():
    assert equal_error_rate(roc_curve([0.9, 0.8], [0.1, 0.2]))[0] == 0
    assert equal_error_rate(roc_curve([0.1, 0.2], [0.8, 0.9]))[0] == 1


def test_equal_error_rate_of_a_known_crossing():
    # At 0.5 one of four is wrong on either side.
    rate, threshold = equal_error_rate(roc_curve([0.4, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.55]))
    assert (rate, threshold) == (0.25, 0.4)
