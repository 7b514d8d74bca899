"""Loss heads against NumPy and finite differences."""

import math

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.symbols.heads import margin_softmax, softmax
from vargfacenet.symbols.objective import objective

IDENTITIES, SIZE = 7, 6


def bind(head, embedding, label, **parameters):
    inputs = {"e": embedding, "l": label, **parameters}
    arrays = {name: mx.nd.array(value) for name, value in inputs.items()}
    wanted = {name: "null" if name == "l" else "write" for name in arrays}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in arrays.items() if name != "l"}
    return head.bind(mx.cpu(), arrays, args_grad=gradients, grad_req=wanted)


def run(head, embedding, label, **parameters):
    executor = bind(objective(identity=head), embedding, label, **parameters)
    executor.forward(is_train=True)
    executor.backward()
    loss, correct = (output.asnumpy() for output in executor.outputs)
    return (
        loss,
        correct,
        {name: gradient.asnumpy() for name, gradient in executor.grad_dict.items() if gradient is not None},
    )


def margin_head(**margins):
    e, label = mx.sym.var("e"), mx.sym.var("l")
    return margin_softmax(e, label, num_identities=IDENTITIES, embedding_size=SIZE, **margins)


def numpy_margin_loss(embedding, weight, label, *, m1=1.0, m2=0.5, m3=0.0, scale=64.0):
    """The loss by the paper's formula, in float64, for angles below pi after the margin."""
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    directions = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    logits = unit @ directions.T
    rows = np.arange(len(label))
    logits[rows, label] = np.cos(m1 * np.arccos(logits[rows, label]) + m2) - m3
    logits = logits * scale
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, label]


@pytest.fixture
def sample():
    random = np.random.RandomState(3)
    label = random.randint(0, IDENTITIES, 5)
    weight = random.normal(size=(IDENTITIES, SIZE))
    # Near their identities, so that no angle passes pi.
    embedding = 3 * weight[label] + random.normal(size=(5, SIZE))
    return embedding, weight, label


MARGINS = [
    {},
    {"m2": 0.0, "m3": 0.35},
    {"m1": 1.35, "m2": 0.0},
    {"m1": 0.9, "m2": 0.4, "m3": 0.15, "scale": 16.0},
    {"m2": 0.0, "scale": 30.0},
]


@pytest.mark.parametrize("margins", MARGINS)
def test_loss_equals_the_formula(sample, margins):
    embedding, weight, label = sample
    loss, _, _ = run(margin_head(**margins), embedding, label, fc7_weight=weight)
    np.testing.assert_allclose(loss, numpy_margin_loss(embedding, weight, label, **margins), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("margins", MARGINS)
def test_gradients_equal_finite_differences(sample, margins):
    embedding, weight, label = sample
    margins = {**margins, "scale": 8.0}
    _, _, gradients = run(margin_head(**margins), embedding, label, fc7_weight=weight)
    for name, values in (("e", embedding), ("fc7_weight", weight)):
        expected = np.zeros_like(values)
        for place in np.ndindex(values.shape):
            sides = []
            for step in (1e-5, -1e-5):
                moved = values.copy()
                moved[place] += step
                arguments = (moved, weight) if name == "e" else (embedding, moved)
                sides.append(numpy_margin_loss(*arguments, label, **margins).sum())
            expected[place] = (sides[0] - sides[1]) / 2e-5
        np.testing.assert_allclose(gradients[name], expected, rtol=5e-3, atol=5e-3)


def test_known_angles_give_known_losses():
    weight = np.eye(IDENTITIES, SIZE)
    weight[-1] = -1
    angle = 0.8
    embedding = np.array([[math.cos(angle), math.sin(angle), 0, 0, 0, 0]])
    loss, correct, _ = run(margin_head(scale=1.0), embedding, [0], fc7_weight=weight)
    others = [math.sin(angle), 0, 0, 0, 0, -(math.cos(angle) + math.sin(angle)) / math.sqrt(6)]
    expected = -math.cos(angle + 0.5) + math.log(math.exp(math.cos(angle + 0.5)) + sum(map(math.exp, others)))
    assert loss[0] == pytest.approx(expected, abs=1e-5)
    assert correct[0] == 0  # sin(0.8) > cos(0.8): the nearest identity is another


def test_correct_ignores_the_margin():
    weight = np.eye(IDENTITIES, SIZE)
    embedding = np.array([[1, 0.9, 0, 0, 0, 0]])
    _, correct, _ = run(margin_head(), embedding, [0], fc7_weight=weight)
    assert correct[0] == 1


@pytest.mark.parametrize("margins", [{}, {"m1": 2.0, "m2": 0.3}, {"m1": 4.0, "m2": 0.0}])
def test_beyond_pi_the_target_goes_on_falling(margins):
    """psi(t) = (-1)^k cos(t) - 2k for t in k pi .. (k + 1) pi [SphereFace], recovered from the loss of two identities."""
    e, label = mx.sym.var("e"), mx.sym.var("l")
    head = margin_softmax(e, label, num_identities=2, embedding_size=2, scale=1.0, **margins)
    angles = np.linspace(0.02, math.pi - 0.02, 50)
    embedding = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    loss, _, _ = run(head, embedding, np.zeros(50), fc7_weight=np.eye(2))
    found = np.sin(angles) - np.log(np.exp(loss) - 1)
    after = margins.get("m1", 1.0) * angles + margins.get("m2", 0.5)
    turns = np.floor(after / math.pi)
    expected = (-1) ** turns * np.cos(after) - 2 * turns
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (np.diff(expected) < 0).all()


@pytest.mark.parametrize("embedding", [np.zeros((2, SIZE)), np.eye(2, SIZE), -np.eye(2, SIZE), 1e18 * np.eye(2, SIZE)])
def test_extreme_embeddings_leave_loss_and_gradients_finite(embedding):
    loss, _, gradients = run(margin_head(), embedding, [0, 1], fc7_weight=np.eye(IDENTITIES, SIZE))
    assert np.isfinite(loss).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_plain_softmax_equals_numpy(sample):
    embedding, weight, label = sample
    bias = np.linspace(-1, 1, IDENTITIES)
    head = softmax(mx.sym.var("e"), mx.sym.var("l"), num_identities=IDENTITIES)
    loss, correct, gradients = run(head, 50 * embedding, label, fc7_weight=weight, fc7_bias=bias)
    logits = 50 * embedding @ weight.T + bias
    shifted = logits - logits.max(axis=1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(5), label]
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(correct, logits.argmax(axis=1) == label)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    probabilities[np.arange(5), label] -= 1
    np.testing.assert_allclose(gradients["fc7_bias"], probabilities.sum(axis=0), atol=1e-3)
