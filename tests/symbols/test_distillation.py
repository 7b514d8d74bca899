"""Distillation losses against NumPy, known angles and finite differences."""

import math

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import SettingError
from vargfacenet.symbols.distillation import distillation
from vargfacenet.symbols.heads import margin_softmax
from vargfacenet.symbols.objective import objective

FORMS = ["angular", "squared_cosine"]
SAMPLES, SIZE, IDENTITIES = 5, 6, 4


def run(symbol, **values):
    """Outputs by name and gradients by name, in training mode."""
    arrays = {name: mx.nd.array(value) for name, value in values.items()}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in arrays.items()}
    executor = symbol.bind(mx.cpu(), arrays, args_grad=gradients)
    executor.forward(is_train=True)
    executor.backward()
    outputs = {name: output.asnumpy() for name, output in executor.output_dict.items()}
    return outputs, {name: gradient.asnumpy() for name, gradient in gradients.items()}


def distilled(form="angular", alpha=1.0):
    return objective(distillation=distillation(mx.sym.var("student"), mx.sym.var("teacher"), form=form), alpha=alpha)


def numpy_loss(student, teacher, form):
    """The equations as they are printed, in float64."""
    s = student / np.linalg.norm(student, axis=1, keepdims=True)
    t = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    if form == "angular":
        return (np.linalg.norm(t - s, axis=1)) ** 2
    return (1 - (s * t).sum(axis=1)) ** 2


def finite_differences(loss, values, step=1e-5):
    found = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        up, down = values.copy(), values.copy()
        up[place] += step
        down[place] -= step
        found[place] = (loss(up) - loss(down)) / (2 * step)
    return found


@pytest.fixture
def embeddings():
    random = np.random.RandomState(1)
    return 3 * random.normal(size=(SAMPLES, SIZE)), 0.5 * random.normal(size=(SAMPLES, SIZE))


@pytest.mark.parametrize("form", FORMS)
def test_loss_equals_the_equation(embeddings, form):
    student, teacher = embeddings
    outputs, _ = run(distilled(form), student=student, teacher=teacher)
    np.testing.assert_allclose(outputs["distillation_loss_output"], numpy_loss(student, teacher, form), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [1.0, 7.0, 64.0])
def test_gradient_equals_finite_differences(embeddings, form, alpha):
    student, teacher = embeddings
    _, gradients = run(distilled(form, alpha), student=student, teacher=teacher)
    expected = finite_differences(lambda moved: alpha * numpy_loss(moved, teacher, form).sum(), student)
    np.testing.assert_allclose(gradients["student"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2, 2.5, math.pi])
@pytest.mark.parametrize("length", [0.01, 1.0, 40.0])
def test_embeddings_at_known_angles(angle, length):
    student, teacher = [[length * math.cos(angle), length * math.sin(angle)]], [[7.0, 0.0]]
    for form, expected in (("angular", 2 * (1 - math.cos(angle))), ("squared_cosine", (1 - math.cos(angle)) ** 2)):
        outputs, _ = run(distilled(form), student=student, teacher=teacher)
        assert outputs["distillation_loss_output"][0] == pytest.approx(expected, abs=1e-5)
        assert outputs["cosine_output"][0] == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_teacher_gets_no_gradient(embeddings, form):
    student, teacher = embeddings
    _, gradients = run(distilled(form), student=student, teacher=teacher)
    assert np.abs(gradients["student"]).max() > 0
    assert not gradients["teacher"].any()


@pytest.mark.parametrize("form", FORMS)
def test_a_zero_embedding_leaves_loss_and_gradient_finite(form):
    zero, some = np.zeros((1, SIZE)), np.ones((1, SIZE))
    for student, teacher in ((zero, some), (some, zero), (zero, zero), (1e-8 * some, some), (1e15 * some, some)):
        outputs, gradients = run(distilled(form), student=student, teacher=teacher)
        assert all(np.isfinite(values).all() for values in (*outputs.values(), *gradients.values()))
    outputs, _ = run(distilled(form), student=zero, teacher=some)
    assert outputs["cosine_output"][0] == 0
    assert outputs["distillation_loss_output"][0] == pytest.approx(1)


@pytest.mark.parametrize("alpha", [0.0, 7.0])
def test_the_sum_has_the_value_and_the_gradient_of_its_parts(embeddings, alpha):
    student, teacher = embeddings
    weight = np.random.RandomState(2).normal(size=(IDENTITIES, SIZE))
    label = np.arange(SAMPLES) % IDENTITIES
    var = mx.sym.var("student")
    identity = margin_softmax(var, mx.sym.var("label"), num_identities=IDENTITIES, embedding_size=SIZE, scale=8.0)
    learned = distillation(var, mx.sym.var("teacher"))
    both, both_gradients = run(
        objective(identity=identity, distillation=learned, alpha=alpha),
        student=student,
        teacher=teacher,
        label=label,
        fc7_weight=weight,
    )
    alone, alone_gradients = run(objective(identity=identity), student=student, label=label, fc7_weight=weight)
    taught, taught_gradients = run(distilled(), student=student, teacher=teacher)
    expected = alone["loss_output"] + alpha * taught["loss_output"]
    np.testing.assert_allclose(both["loss_output"], expected, rtol=1e-5)
    np.testing.assert_allclose(both["identity_loss_output"], alone["loss_output"], rtol=1e-6)
    np.testing.assert_array_equal(both["accuracy_output"], alone["accuracy_output"])
    np.testing.assert_allclose(both_gradients["fc7_weight"], alone_gradients["fc7_weight"], rtol=1e-5, atol=1e-6)
    gradient = alone_gradients["student"] + alpha * taught_gradients["student"]
    np.testing.assert_allclose(both_gradients["student"], gradient, rtol=1e-4, atol=1e-5)


def test_distillation_alone_needs_no_label():
    assert distilled().list_arguments() == ["student", "teacher"]
    assert distilled().list_outputs() == ["loss_output", "distillation_loss_output", "cosine_output"]


def test_an_unknown_form_is_refused():
    with pytest.raises(SettingError, match="distillation='cosine': expected one of angular, squared_cosine"):
        distillation(mx.sym.var("student"), mx.sym.var("teacher"), form="cosine")


def test_nothing_to_minimise_is_refused():
    with pytest.raises(SettingError, match="nothing to minimise"):
        objective()
