"""Margin losses against the papers' formulas, known angles and finite differences."""

import math

import mxnet as mx
import numpy as np
import pytest

from tests.symbols.margins import reference
from tests.symbols.margins.graph import head, run
from tests.symbols.margins.reference import finite_differences
from vargfacenet.errors import SettingError
from vargfacenet.symbols.margins import MARGINS, TEACHER_MARGINS, Samples, get_margin
from vargfacenet.symbols.registry import LOSSES as REGISTERED

IDENTITIES, SIZE, SAMPLES = 7, 6, 8
STATES = {
    "adaface": {"fc7_norm_mean": [4.0], "fc7_norm_deviation": [1.5]},
    "curricularface": {"fc7_difficulty": [0.3]},
}
PUBLISHED = {
    "subcentre": {"m1": 1.0, "m2": 0.5, "m3": 0.0},
    "adaface": {"margin": 0.4, "concentration": 0.333, "norm_momentum": 0.99},
    "elasticface_arc": {"margin": 0.5, "deviation": 0.05},
    "elasticface_cos": {"margin": 0.35, "deviation": 0.05},
    "elasticface_arc_plus": {"margin": 0.5, "deviation": 0.0175},
    "elasticface_cos_plus": {"margin": 0.35, "deviation": 0.02},
    "curricularface": {"margin": 0.5, "difficulty_momentum": 0.99},
    "magface": {"norm_low": 10, "norm_high": 110, "margin_low": 0.45, "margin_high": 0.8, "norm_weight": 35},
    "arcdistill": {"margin": 0.45},
    "margin_distillation": {"margin_low": 0.2, "margin_high": 0.5},
}


@pytest.fixture
def sample():
    """Embeddings some of which are near their identities and some anywhere, of lengths 1 to 9."""
    random = np.random.RandomState(3)
    label = random.randint(0, IDENTITIES, SAMPLES)
    label[1] = label[0]
    weight = random.normal(size=(IDENTITIES, SIZE))
    embedding = 1.5 * (np.arange(SAMPLES) % 2)[:, None] * weight[label] + random.normal(size=(SAMPLES, SIZE))
    embedding *= (np.linspace(1, 9, SAMPLES) / np.linalg.norm(embedding, axis=1))[:, None]
    teacher = weight[label] + random.normal(size=(SAMPLES, SIZE))
    return {"embedding": embedding, "weight": weight, "label": label, "teacher": teacher}


def draws(name):
    return get_margin(name).draw(SAMPLES, seed=5, update=9)


def expected_loss(name, sample, scale):
    """The reference as a function of embedding and weight, and what it does with the states."""
    embedding, label = sample["embedding"], sample["label"]
    norms = np.linalg.norm(embedding, axis=1)
    if name == "adaface":
        mean, deviation = 0.99 * 4 + 0.01 * norms.mean(), 0.99 * 1.5 + 0.01 * norms.std(ddof=1)
        fixed = {"mean": mean, "deviation": deviation, "norms": norms}
        return (lambda e, w: reference.adaface(e, w, label, scale=scale, **fixed)), {
            "fc7_norm_mean": mean,
            "fc7_norm_deviation": deviation,
        }
    if name == "curricularface":
        cosines = reference.cosines_of(embedding, sample["weight"])
        t = 0.99 * 0.3 + 0.01 * cosines[np.arange(SAMPLES), label].mean()
        return (lambda e, w: reference.curricularface(e, w, label, scale=scale, t=t)), {"fc7_difficulty": t}
    if name.startswith("elasticface"):
        drawn = draws(name).astype(np.float64)
        if name.endswith("plus"):
            own = reference.cosines_of(embedding, sample["weight"])[np.arange(SAMPLES), label]
            given = np.empty(SAMPLES)
            for rank, row in enumerate(sorted(range(SAMPLES), key=lambda row: -own[row])):
                given[row] = sorted(drawn)[rank]
            drawn = given
        return (lambda e, w: reference.elasticface(e, w, label, drawn, scale=scale, arc="arc" in name)), {}
    if name in ("subcentre", "arcdistill"):
        fixed = np.full(SAMPLES, 0.5 if name == "subcentre" else 0.45)
        return (lambda e, w: reference.elasticface(e, w, label, fixed, scale=scale, arc=True)), {}
    if name == "magface":
        return (lambda e, w: reference.magface(e, w, label, scale=scale, low=2, high=8)), {}
    return (lambda e, w: reference.margin_distillation(e, w, label, sample["teacher"], scale=scale)), {}


LOSSES = [*MARGINS, "arcdistill", "margin_distillation"]


def found(name, sample, scale):
    options = {"norm_low": 2, "norm_high": 8} if name == "magface" else {}
    values = {"fc7_weight": sample["weight"], "embedding": sample["embedding"], "label": sample["label"]}
    if name.startswith("elasticface"):
        values["draw"] = draws(name)
    if name == "margin_distillation":
        values["teacher"] = sample["teacher"]
    symbol = head(name, identities=IDENTITIES, size=SIZE, scale=scale, **options)
    return run(symbol, STATES.get(name), **values)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [64.0, 8.0])
def test_loss_and_states_are_those_of_the_paper(sample, name, scale):
    loss, correct, _, states = found(name, sample, scale)
    formula, expected_states = expected_loss(name, sample, scale)
    np.testing.assert_allclose(loss, formula(sample["embedding"], sample["weight"]), rtol=2e-4, atol=2e-4)
    cosines = reference.cosines_of(sample["embedding"], sample["weight"])
    np.testing.assert_array_equal(correct, cosines.argmax(axis=1) == sample["label"])
    assert 0 < correct.sum() < SAMPLES
    assert set(states) == set(expected_states)
    for key, value in expected_states.items():
        np.testing.assert_allclose(states[key], [value], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_differences_of_the_formula(sample, name):
    _, _, gradients, _ = found(name, sample, 8.0)
    formula, _ = expected_loss(name, sample, 8.0)
    embedding, weight = sample["embedding"], sample["weight"]
    by_embedding = finite_differences(lambda moved: formula(moved, weight).sum(), embedding)
    by_weight = finite_differences(lambda moved: formula(embedding, moved).sum(), weight)
    if name == "margin_distillation":
        # The teacher's cosines read the classifier too, which is frozen where this loss is used.
        by_weight = gradients["fc7_weight"]
    np.testing.assert_allclose(gradients["embedding"], by_embedding, rtol=5e-3, atol=5e-3)
    np.testing.assert_allclose(gradients["fc7_weight"], by_weight, rtol=5e-3, atol=5e-3)


def test_curricular_negatives_are_weighed_in_the_sample():
    """Otherwise the tests above would not see them."""
    random = np.random.RandomState(3)
    embedding, weight = random.normal(size=(4, SIZE)), random.normal(size=(IDENTITIES, SIZE))
    label = np.arange(4)
    at = {"identities": IDENTITIES, "size": SIZE}
    inputs = {"embedding": embedding, "label": label, "fc7_weight": weight}
    curricular, _, _, _ = run(head("curricularface", **at), {"fc7_difficulty": [0.9]}, **inputs)
    plain, _, _, _ = run(head("subcentre", **at), **inputs)
    assert (np.abs(curricular - plain) > 0.1).any()


@pytest.mark.parametrize("centres", [1, 3])
def test_the_nearest_of_an_identitys_centres_counts(sample, centres):
    random = np.random.RandomState(4)
    weight, embedding, label = random.normal(size=(IDENTITIES * centres, SIZE)), sample["embedding"], sample["label"]
    embedding = embedding + 4 * weight[label * centres]
    symbol = head("subcentre", identities=IDENTITIES, size=SIZE, scale=8.0, centres=centres)
    loss, _, gradients, _ = run(symbol, fc7_weight=weight, embedding=embedding, label=label)

    def formula(e, w):
        return reference.subcentre_arcface(e, w, label, scale=8.0, centres=centres)

    np.testing.assert_allclose(loss, formula(embedding, weight), rtol=1e-4, atol=1e-4)
    for name, expected in (
        ("embedding", finite_differences(lambda moved: formula(moved, weight).sum(), embedding)),
        ("fc7_weight", finite_differences(lambda moved: formula(embedding, moved).sum(), weight)),
    ):
        np.testing.assert_allclose(gradients[name], expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.4, math.pi / 2, 2.5, math.pi - 1e-3, math.pi])
@pytest.mark.parametrize("name", [*LOSSES])
def test_known_angles_give_known_targets(name, angle):
    """Of two identities at right angles the loss is ln(1 + exp(other - target)), from which the target is read."""
    length, mean, deviation = 30.0, 20.0, 100.0
    embedding = length * np.array([[math.cos(angle), math.sin(angle)]])
    given = {"embedding": embedding, "label": [0], "fc7_weight": np.eye(2)}
    if name.startswith("elasticface"):
        given["draw"] = [0.37]
    if name == "margin_distillation":
        given["teacher"] = [[math.cos(0.6), math.sin(0.6)]]
    states = {
        "adaface": {"fc7_norm_mean": [mean], "fc7_norm_deviation": [deviation]},
        "curricularface": {"fc7_difficulty": [0.0]},
    }
    options = {"adaface": {"norm_momentum": 1.0}, "curricularface": {"difficulty_momentum": 1.0}, "magface": {}}
    symbol = head(name, identities=2, size=2, scale=1.0, **options.get(name, {}))
    loss, _, gradients, _ = run(symbol, states.get(name), **given)
    other = math.sin(angle)
    z = (length - mean) / (deviation + 1e-3) * 0.333
    added = math.cos(angle + 0.5)
    expected = {
        "adaface": math.cos(min(math.pi - 1e-3, max(1e-3, angle - 0.4 * z))) - 0.4 * (1 + z),
        "elasticface_arc": math.cos(angle + 0.37),
        "elasticface_cos": math.cos(angle) - 0.37,
        "elasticface_arc_plus": math.cos(angle + 0.37),
        "elasticface_cos_plus": math.cos(angle) - 0.37,
        "curricularface": added if angle < math.pi - 0.5 else math.cos(angle) - 0.5 * math.sin(math.pi - 0.5),
        "magface": math.cos(angle + 0.45 + 0.35 * 20 / 100) if math.cos(angle) > 0 else math.cos(angle),
        "subcentre": added if angle + 0.5 < math.pi else -math.cos(angle + 0.5) - 2,
        "arcdistill": math.cos(angle + 0.45) if angle + 0.45 < math.pi else -math.cos(angle + 0.45) - 2,
        # The only sample is the one of which the teacher is surest.
        "margin_distillation": added if angle + 0.5 < math.pi else -math.cos(angle + 0.5) - 2,
    }[name]
    if name == "curricularface" and other > added:
        other = other * other
    penalty = 35 * (length / 110**2 + 1 / length) if name == "magface" else 0
    assert loss[0] - penalty == pytest.approx(math.log1p(math.exp(other - expected)), abs=2e-3)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["zero", "equal", "one", "near", "opposite", "long"])
def test_extreme_batches_leave_loss_gradients_and_states_finite(name, kind):
    count = 1 if kind == "one" else 3
    embedding = {
        "zero": np.zeros((3, SIZE)),
        "equal": np.ones((3, SIZE)),
        "one": np.ones((1, SIZE)),
        "near": np.eye(3, SIZE),
        "opposite": -np.eye(3, SIZE),
        "long": 1e15 * np.eye(3, SIZE),
    }[kind]
    given = {"embedding": embedding, "label": np.arange(count), "fc7_weight": np.eye(IDENTITIES, SIZE) + 1e-3}
    if name.startswith("elasticface"):
        given["draw"] = np.full(count, 0.5)
    if name == "margin_distillation":
        given["teacher"] = embedding
    loss, _, gradients, states = run(head(name, identities=IDENTITIES, size=SIZE), STATES.get(name), **given)
    assert np.isfinite(loss).all()
    assert all(np.isfinite(values).all() for values in (*gradients.values(), *states.values()))
    if name == "adaface":
        norms = np.clip(np.linalg.norm(embedding, axis=1), 1e-3, 100)
        assert states["fc7_norm_mean"] == pytest.approx(0.99 * 4 + 0.01 * norms.mean(), rel=1e-3)
        deviation = 1.5 if kind == "one" else 0.99 * 1.5 + 0.01 * norms.std(ddof=1)
        assert states["fc7_norm_deviation"] == pytest.approx(deviation, rel=1e-4)


@pytest.mark.parametrize("name", ["adaface", "curricularface"])
def test_states_stand_still_outside_training(sample, name):
    values = {"fc7_weight": sample["weight"], "embedding": sample["embedding"], "label": sample["label"]}
    _, _, _, states = run(head(name, identities=IDENTITIES, size=SIZE), STATES[name], training=False, **values)
    for key, value in STATES[name].items():
        np.testing.assert_array_equal(states[key], np.float32(value))


def test_adaface_lies_between_arcface_and_a_negative_angle_by_quality():
    """[AdaFace, figure 3]: z = -1 is ArcFace, 0 CosFace, 1 a negative angle less twice the margin."""
    adaface = get_margin("adaface")

    def target(norm, cosine):
        samples = Samples(mx.nd.array([cosine]), mx.nd.array([norm]))
        return adaface.target(samples, (mx.nd.array([20.0]), mx.nd.array([5.0])), operators=mx.nd).asscalar()

    assert target(20, 0.5) == pytest.approx(0.5 - 0.4, abs=1e-5)  # CosFace
    assert target(1, 0.5) == pytest.approx(math.cos(math.acos(0.5) + 0.4), abs=1e-5)  # ArcFace
    assert target(99, 0.5) == pytest.approx(math.cos(math.acos(0.5) - 0.4) - 0.8, abs=1e-5)  # negative angle


def test_draws_are_a_pure_function_of_seed_and_update():
    margin = get_margin("elasticface_arc")
    drawn = margin.draw(20_000, seed=1, update=7)
    np.testing.assert_array_equal(drawn, margin.draw(20_000, seed=1, update=7))
    for seed, update in ((2, 7), (1, 8)):
        assert np.abs(drawn - margin.draw(20_000, seed=seed, update=update)).max() > 0.01
    np.testing.assert_array_equal(drawn[:64], margin.draw(64, seed=1, update=7))  # the first of a larger batch
    assert drawn.mean() == pytest.approx(0.5, abs=0.002)
    assert drawn.std() == pytest.approx(0.05, rel=0.03)
    assert get_margin("subcentre").draw(4, seed=0, update=1) is None


def test_a_frozen_classifier_asks_for_no_step():
    attributes = head("arcdistill", identities=3, size=4, frozen=True).attr_dict()["fc7_weight"]
    assert float(attributes["__lr_mult__"]) == float(attributes["__wd_mult__"]) == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_those_of_the_papers(name):
    defaults = {option: setting.default for option, setting in REGISTERED[name].options.items()}
    centres = {} if name in TEACHER_MARGINS else {"centres": 3 if name == "subcentre" else 1}
    assert defaults == {**PUBLISHED[name], "scale": 64.0, **centres}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adafase", {}, "unknown margin loss 'adafase': did you mean 'adaface'"),
        ("adaface", {"margn": 1}, "unknown option of adaface 'margn': did you mean 'margin'"),
        ("adaface", {"margin": "much"}, "margin='much': expected a number"),
        ("magface", {"norm_low": 200}, "norm_low=200 norm_high=110: expected the first below the second"),
        ("margin_distillation", {"margin_high": 0.1}, "margin_low=0.2 margin_high=0.1: expected the first below"),
    ],
)
def test_mistaken_settings_are_refused(name, options, message):
    with pytest.raises(SettingError, match=message):
        get_margin(name, **options)
