"""Pooling and scores of templates, compared with a plain computation."""

import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols import templates as module
from vargfacenet.eval.protocols.templates import pair_scores, pool_templates, verify_templates


@pytest.fixture(scope="module")
def images():
    """Embeddings of 70 images and mirrors, detector scores, and 90 rows in 12 templates of several media, in any order."""
    random = np.random.RandomState(0)
    embeddings, mirrored = random.normal(size=(2, 70, 6)) * random.uniform(0.5, 9, (70, 1))
    rows, templates = random.randint(0, 70, 90), random.choice(np.arange(3, 90, 8)[:12], 90)
    # The same numbers of media come in several templates, as in IJB.
    return embeddings, mirrored, random.uniform(0.1, 1, 70), rows, templates, random.randint(40, 45, 90)


def plainly(rows_of_images, images, templates, media):
    """Mean within a medium, mean over media, L2-normalised: loop by loop."""
    pooled = {}
    for template in sorted(set(templates.tolist())):
        means = []
        for medium in sorted(set(media[templates == template].tolist())):
            inside = [rows_of_images[p] for p, t, m in zip(images, templates, media) if (t, m) == (template, medium)]
            means.append(np.mean(inside, axis=0))
        mean = np.mean(means, axis=0)
        pooled[template] = mean / np.linalg.norm(mean)
    return pooled


@pytest.mark.parametrize("rows_at_a_time", [1, 7, 8192])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_pooling_equals_the_plain_computation(images, rows_at_a_time, flip, normalize, weighted, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", rows_at_a_time)
    embeddings, mirrored, scores, *places = images
    single = embeddings + mirrored if flip else embeddings
    if normalize:
        single = single / np.linalg.norm(single, axis=1, keepdims=True)
    if weighted:
        single = single * scores[:, None]
    expected = plainly(single, *places)
    given = {"normalize_images": normalize, "weights": scores if weighted else None}
    found = pool_templates(embeddings, mirrored if flip else None, *places, **given)
    assert found.ids.tolist() == list(expected)
    np.testing.assert_allclose(found.embeddings, list(expected.values()), atol=1e-6)


def test_a_video_weighs_as_much_as_a_photograph():
    embeddings = np.array([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    found = pool_templates(embeddings, None, np.arange(4), np.zeros(4, int), np.array([0, 1, 1, 1]))
    np.testing.assert_allclose(found.embeddings, [[np.sqrt(0.5)] * 2], rtol=1e-6)


def test_images_that_cancel_out_leave_zero():
    found = pool_templates(np.array([[1.0, 0], [-1, 0]]), None, np.arange(2), np.zeros(2, int), np.arange(2))
    assert found.embeddings.tolist() == [[0, 0]]


def test_embeddings_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="NaN or infinity"):
        pool_templates(np.array([[np.nan, 0]]), None, np.zeros(1, int), np.zeros(1, int), np.zeros(1, int))


@pytest.mark.parametrize("templates_at_a_time", [1, 5, 256])
def test_scores_are_the_cosines_of_the_pairs_in_their_order(templates_at_a_time, monkeypatch):
    monkeypatch.setattr(module, "_TEMPLATES", templates_at_a_time)
    random = np.random.RandomState(1)
    rows = random.normal(size=(23, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    first, second = random.randint(4, 20, 300), random.randint(0, 23, 300)
    done = []
    found = pair_scores(rows, first, second, progress=done.append)
    expected = [sum(float(a) * float(b) for a, b in zip(rows[i], rows[j])) for i, j in zip(first, second)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert sum(done) == 300


def test_rates_are_those_of_counts():
    scores = np.array([0.9, 0.5, 0.4, 0.8, 0.5, 0.3, 0.2, 0.1], np.float32)
    is_same = np.array([True, True, True, False, False, False, False, False])
    found = verify_templates(scores, is_same, fars=(0.4, 0.2, 0.1))
    assert (found.same, found.different) == (3, 5)
    # Of five strangers two may pass: above 0.3; one: above 0.5; less than one cannot be measured.
    assert found.tar == {"0.4": 1, "0.2": pytest.approx(1 / 3), "0.1": None}
    assert found.threshold == {"0.4": pytest.approx(0.3), "0.2": 0.5, "0.1": None}
