"""AdaDistill against its recurrence in NumPy, and its centres as a state of a graph that is trained."""

import mxnet as mx
import numpy as np
import pytest

from tests.symbols.margins import reference
from vargfacenet.symbols.margins import adadistill
from vargfacenet.symbols.objective import objective

IDENTITIES, SIZE, SAMPLES = 5, 6, 7


def graph(**options):
    return adadistill(
        mx.sym.var("student"),
        mx.sym.var("label"),
        mx.sym.var("teacher"),
        num_identities=IDENTITIES,
        embedding_size=SIZE,
        **options,
    )


def run(symbol, centres, training=True, **values):
    """Outputs, the student's gradient, the teacher's, and the centres after a pass."""
    arrays = {name: mx.nd.array(value) for name, value in values.items()}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in arrays.items()}
    auxs = {"fc7_centres": mx.nd.array(centres)}
    symbol = objective(identity=symbol)
    executor = symbol.bind(mx.cpu(), arrays, args_grad=gradients, grad_req="write", aux_states=auxs)
    executor.forward(is_train=training)
    if training:
        executor.backward()
    mx.nd.waitall()
    outputs = {name: output.asnumpy() for name, output in executor.output_dict.items()}
    return outputs, gradients["student"].asnumpy(), gradients["teacher"].asnumpy(), auxs["fc7_centres"].asnumpy()


@pytest.fixture
def sample():
    random = np.random.RandomState(0)
    teacher = random.normal(size=(SAMPLES, SIZE))
    return {
        "student": 5 * teacher + 3 * random.normal(size=(SAMPLES, SIZE)),
        "teacher": teacher,
        "label": np.array([2, 0, 2, 4, 2, 0, 1]),  # identities come up to three times, one not at all
    }


CENTRES = 2 * np.random.RandomState(1).normal(size=(IDENTITIES, SIZE))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("scale", [64.0, 8.0])
def test_loss_and_centres_follow_the_recurrence(sample, weighted, scale):
    outputs, _, _, centres = run(graph(weighted=weighted, scale=scale), CENTRES, **sample)
    student, teacher, label = (sample[name] for name in ("student", "teacher", "label"))
    loss, after = reference.adadistill(CENTRES, student, teacher, label, scale=scale, weighted=weighted)
    np.testing.assert_allclose(centres, after, atol=1e-5)
    np.testing.assert_allclose(outputs["loss_output"], loss, rtol=2e-4, atol=2e-4)
    np.testing.assert_array_equal(centres[3], CENTRES[3].astype(np.float32))
    nearest = reference.cosines_of(student, after).argmax(axis=1)
    np.testing.assert_array_equal(outputs["accuracy_output"], nearest == label)


def test_the_student_alone_gets_a_gradient(sample):
    _, by_student, by_teacher, centres = run(graph(scale=8.0), CENTRES, **sample)
    label = sample["label"]

    def loss(moved):
        # The centres are where this batch has put them.
        cosines = reference.cosines_of(moved, centres)
        targets = [np.cos(np.arccos(cosines[row, own]) + 0.45) for row, own in enumerate(label)]
        return reference.cross_entropy(8.0 * reference.with_targets(cosines, label, targets), label).sum()

    expected = reference.finite_differences(loss, sample["student"])
    np.testing.assert_allclose(by_student, expected, rtol=5e-3, atol=5e-4)
    assert not by_teacher.any()


def test_a_student_far_from_its_teacher_takes_the_teachers_embedding_as_centre():
    teacher = np.eye(1, SIZE)
    _, _, _, centres = run(graph(), CENTRES, student=-teacher, teacher=teacher, label=[3])
    np.testing.assert_allclose(centres[3], teacher[0], atol=1e-5)
    same = np.tile(teacher, (IDENTITIES, 1))
    _, _, _, centres = run(graph(), same, student=teacher, teacher=-teacher, label=[3])
    np.testing.assert_allclose(centres[3], -teacher[0], atol=1e-5)


def test_centres_stand_still_outside_training(sample):
    _, _, _, centres = run(graph(), CENTRES, training=False, **sample)
    np.testing.assert_array_equal(centres, CENTRES.astype(np.float32))


@pytest.mark.parametrize("embedding", [np.zeros((2, SIZE)), np.eye(2, SIZE), -np.eye(2, SIZE), 1e15 * np.eye(2, SIZE)])
def test_extreme_embeddings_leave_loss_gradient_and_centres_finite(embedding):
    for centres in (CENTRES, np.zeros((IDENTITIES, SIZE))):
        given = {"student": embedding, "teacher": np.eye(2, SIZE), "label": [0, 1]}
        outputs, by_student, _, after = run(graph(), centres, **given)
        assert all(np.isfinite(values).all() for values in (*outputs.values(), by_student, after))
