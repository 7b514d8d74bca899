"""Relational distillation losses and the embeddings' error, against loops over pairs and triplets in NumPy."""

import itertools
import math

import mxnet as mx
import numpy as np
import pytest

from tests.symbols.margins.reference import finite_differences, l2_normalize
from vargfacenet.symbols.distillation_losses import embedding_error, relational_loss, triplet_distillation
from vargfacenet.symbols.objective import objective

SAMPLES, SIZE = 6, 5
S, T, LABEL = mx.sym.var("student"), mx.sym.var("teacher"), mx.sym.var("label")
ONE = mx.sym.ones_like(mx.sym.sum(S, axis=1))


def run(loss, **values):
    """The loss of each sample, and gradients by name."""
    arrays = {name: mx.nd.array(value) for name, value in values.items()}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in arrays.items()}
    symbol = objective(distillation=mx.sym.Group([loss, ONE]), alpha=1.0)
    executor = symbol.bind(mx.cpu(), arrays, args_grad=gradients)
    executor.forward(is_train=True)
    executor.backward()
    return executor.outputs[0].asnumpy(), {name: gradient.asnumpy() for name, gradient in gradients.items()}


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def numpy_distances(student, teacher):
    """Equation 5 of RKD, over all N^2 pairs."""
    s, t = l2_normalize(student), l2_normalize(teacher)
    count, means = len(s), []
    for e in (s, t):
        pairs = [np.linalg.norm(e[i] - e[j]) for i, j in itertools.permutations(range(count), 2)]
        means.append(np.mean(pairs))
    total = 0
    for i, j in itertools.permutations(range(count), 2):
        total += huber(np.linalg.norm(s[i] - s[j]) / means[0] - np.linalg.norm(t[i] - t[j]) / means[1])
    return total / count**2


def numpy_angles(student, teacher):
    """Equation 7 of RKD, over all N^3 triplets."""
    s, t = l2_normalize(student), l2_normalize(teacher)
    total = 0
    for i, j, k in itertools.product(range(len(s)), repeat=3):
        if i not in (j, k):
            cosines = []
            for e in (s, t):
                first, second = e[j] - e[i], e[k] - e[i]
                cosines.append(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
            total += huber(cosines[0] - cosines[1])
    return total / len(s) ** 3


def numpy_triplets(student, teacher, label, low=0.2, high=0.5):
    s, t = l2_normalize(student), l2_normalize(teacher)

    def distance(e, i, j):
        return ((e[i] - e[j]) ** 2).sum()

    triplets = [
        (a, p, n)
        for a, p, n in itertools.product(range(len(s)), repeat=3)
        if a != p and label[a] == label[p] != label[n]
    ]
    gaps = [max(0, distance(t, a, n) - distance(t, a, p)) for a, p, n in triplets]
    margins = [(high - low) / max(gaps) * gap + low for gap in gaps]
    losses = [max(0, distance(s, a, p) - distance(s, a, n) + m) for (a, p, n), m in zip(triplets, margins)]
    return np.mean(losses)


@pytest.fixture
def embeddings():
    random = np.random.RandomState(1)
    teacher = random.normal(size=(SAMPLES, SIZE))
    return 3 * random.normal(size=(SAMPLES, SIZE)) + teacher, teacher


IDENTITIES = np.array([1, 0, 1, 2, 1, 0])
CASES = {
    "distances": (relational_loss(S, T, distance_weight=1.0, angle_weight=0.0), numpy_distances),
    "angles": (relational_loss(S, T, distance_weight=0.0, angle_weight=1.0), numpy_angles),
    "both": (relational_loss(S, T), lambda s, t: numpy_distances(s, t) + 2 * numpy_angles(s, t)),
    "published alone": (
        relational_loss(S, T, distance_weight=25.0, angle_weight=50.0),
        lambda s, t: 25 * numpy_distances(s, t) + 50 * numpy_angles(s, t),
    ),
    "triplets": (triplet_distillation(S, T, LABEL), lambda s, t: numpy_triplets(s, t, IDENTITIES)),
    "error": (
        embedding_error(S, mx.sym.BlockGrad(T), embedding_size=SIZE),
        lambda s, t: np.mean((l2_normalize(s) - l2_normalize(t)) ** 2),
    ),
}


def inputs(case, student, teacher, label=IDENTITIES):
    labels = {"label": label} if case == "triplets" else {}
    return {"student": student, "teacher": teacher, **labels}


@pytest.mark.parametrize("case", CASES)
def test_the_mean_over_the_batch_is_that_of_the_paper(embeddings, case):
    loss, formula = CASES[case]
    found, gradients = run(loss, **inputs(case, *embeddings))
    assert found.shape == (SAMPLES,)
    assert formula(*embeddings) > 1e-3
    assert found.mean() == pytest.approx(formula(*embeddings), rel=1e-4)
    assert not gradients["teacher"].any()


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_finite_differences_of_the_formula(embeddings, case):
    loss, formula = CASES[case]
    student, teacher = embeddings
    _, gradients = run(loss, **inputs(case, *embeddings))
    expected = SAMPLES * finite_differences(lambda moved: formula(moved, teacher), student)
    np.testing.assert_allclose(gradients["student"], expected, rtol=5e-3, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("case", ["distances", "angles", "both", "error"])
def test_a_student_that_equals_its_teacher_has_no_loss(embeddings, case):
    _, teacher = embeddings
    found, gradients = run(CASES[case][0], **inputs(case, 7 * teacher, teacher))
    np.testing.assert_allclose(found, 0, atol=1e-6)
    np.testing.assert_allclose(gradients["student"], 0, atol=1e-5)


def test_known_angles_give_known_distances_and_angles():
    """Three samples on a circle, 90 degrees apart for the student and 60 for the teacher."""
    student, teacher = (
        [[math.cos(n * step), math.sin(n * step)] for n in range(3)] for step in (math.pi / 2, math.pi / 3)
    )
    found, _ = run(CASES["distances"][0], student=student, teacher=teacher)
    right, wide = math.sqrt(2) / ((2 * math.sqrt(2) + 2) / 3), 2 / ((2 * math.sqrt(2) + 2) / 3)
    near, far = 1 / ((2 + math.sqrt(3)) / 3), math.sqrt(3) / ((2 + math.sqrt(3)) / 3)
    expected = (4 * huber(right - near) + 2 * huber(wide - far)) / 9
    assert found.mean() == pytest.approx(expected, rel=1e-4)
    found, _ = run(CASES["angles"][0], student=student, teacher=teacher)
    # At the middle one 90 and 120 degrees, at the outer ones 45 and 30.
    expected = (2 * huber(0 - -0.5) + 4 * huber(math.cos(math.pi / 4) - math.cos(math.pi / 6))) / 27
    assert found.mean() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["zero", "equal", "one", "twins", "opposite", "long"])
def test_extreme_batches_leave_loss_and_gradient_finite(embeddings, case, kind):
    some, teacher = embeddings
    student = {
        "zero": np.zeros((SAMPLES, SIZE)),
        "equal": np.ones((SAMPLES, SIZE)),
        "one": some[:1],
        "twins": np.repeat(some[:3], 2, axis=0),
        "opposite": -teacher,
        "long": 1e15 * some,
    }[kind]
    teacher = teacher[: len(student)]
    for other in (teacher, student):
        found, gradients = run(CASES[case][0], **inputs(case, student, other, IDENTITIES[: len(student)]))
        assert np.isfinite(found).all()
        assert np.isfinite(gradients["student"]).all()


@pytest.mark.parametrize("label", [np.zeros(SAMPLES), np.arange(SAMPLES)])
def test_a_batch_without_triplets_has_no_triplet_loss(embeddings, label):
    found, gradients = run(CASES["triplets"][0], **inputs("triplets", *embeddings, label))
    assert not found.any()
    assert not gradients["student"].any()


def test_triplet_margins_follow_the_teachers_gap():
    """One triplet of each anchor: its gap is the largest of the batch, or none of the teacher's triplets has one."""
    student, label = np.array([[1.0, 0], [1, 0], [1, 0]]), [0, 0, 1]
    sure = np.array([[1.0, 0], [1, 0], [0, 1]])
    for teacher, margin in ((sure, 0.5), (-student, 0.2)):
        found, _ = run(CASES["triplets"][0], student=student, teacher=teacher, label=label)
        assert found.mean() == pytest.approx(margin, abs=1e-5)
