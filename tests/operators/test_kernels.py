"""Native operators but for convolutions against NumPy in float64, on shapes that vectors do not fit."""

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.kernels import EPS, assert_close, draw, per_channel, run

pytestmark = pytest.mark.usefixtures("native")

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 5, 1, 1), (4, 2, 16, 16), (3, 17, 7, 7), (2, 1, 33, 2)]
MOMENTUM = 0.75


def prelu_of(z, slope, dy):
    """PReLU with its gradients."""
    a = per_channel(slope)
    return (
        np.where(z > 0, z, a * z),
        dy * np.where(z > 0, 1, a),
        (dy * np.minimum(z, 0)).sum((0, 2, 3)),
    )


def norm_of(x, gamma, beta, dz_of):
    """BN with its gradients; `dz_of` gives the gradient of its output from the output."""
    x = x.astype(np.float64)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    inverse = 1 / np.sqrt(variance + EPS)
    h = (x - per_channel(mean)) * per_channel(inverse)
    z = per_channel(gamma) * h + per_channel(beta)
    dz = dz_of(z)
    dgamma, dbeta = (dz * h).sum((0, 2, 3)), dz.sum((0, 2, 3))
    count = x.size / x.shape[1]
    dx = per_channel(gamma * inverse) * (dz - per_channel(dbeta / count) - h * per_channel(dgamma / count))
    return z, dx, dgamma, dbeta, mean, variance


@pytest.mark.parametrize("shape", SHAPES)
def test_prelu(shape):
    x, slope, dy = draw(0, *shape), draw(1, shape[1]), draw(2, *shape)
    assert_close(run("vargfacenet_prelu", [x, slope], dy), prelu_of(x.astype(np.float64), slope, dy))


@pytest.mark.parametrize("fix_gamma", [False, True])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if np.prod(shape) / shape[1] > 1])
def test_norm_with_and_without_prelu(shape, fix_gamma):
    x, dy = draw(0, *shape), draw(1, *shape)
    gamma, beta, slope = (draw(seed, shape[1]) for seed in (2, 3, 4))
    attrs = {"eps": str(EPS), "momentum": str(MOMENTUM), "fix_gamma": str(fix_gamma)}
    counted = np.ones_like(gamma) if fix_gamma else gamma
    for slopes in ([], [slope]):
        running = [mx.nd.array(np.full(shape[1], value)) for value in (0.5, 2.0)]
        operator = "vargfacenet_norm_prelu" if slopes else "vargfacenet_norm"
        found = run(operator, [x, gamma, beta, *slopes], dy, auxs=running, **attrs)

        def gradient_of_output(z, slopes=slopes):
            return prelu_of(z, slope, dy)[1] if slopes else dy

        z, dx, dgamma, dbeta, mean, variance = norm_of(x, counted, beta, gradient_of_output)
        expected = [z, dx, np.zeros_like(gamma) if fix_gamma else dgamma, dbeta]
        if slopes:
            y, _, dslope = prelu_of(z, slope, dy)
            expected = [y, *expected[1:], dslope]
        assert_close(found, expected)
        moved = [0.5 * MOMENTUM + mean * (1 - MOMENTUM), 2.0 * MOMENTUM + variance * (1 - MOMENTUM)]
        assert_close([value.asnumpy() for value in running], moved)


def test_norm_keeps_the_digits_of_a_mean_that_is_large():
    x, one = draw(0, 4, 2, 9, 9) + 1000, np.ones(2, np.float32)
    auxs = [mx.nd.zeros(2), mx.nd.ones(2)]
    found = run("vargfacenet_norm", [x, one, 0 * one], 0 * x, auxs=auxs, eps="1e-5", momentum="0.9", fix_gamma="False")
    exact = x.astype(np.float64)
    expected = (exact - exact.mean((0, 2, 3), keepdims=True)) / np.sqrt(exact.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(found[0], expected, atol=5e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_and_mean(shape):
    x, weight, dy = draw(0, *shape), draw(1, *shape[:2], 1, 1), draw(2, *shape)
    expected = [x * weight, dy * weight, (dy * x).sum((2, 3), keepdims=True)]
    assert_close(run("vargfacenet_scale", [x, weight], dy), expected)
    above = draw(3, *shape[:2], 1, 1)
    area = shape[2] * shape[3]
    expected = [x.mean((2, 3), keepdims=True), np.broadcast_to(above / area, shape)]
    assert_close(run("vargfacenet_mean", [x], above), expected)


def interpolation(count, length, corners):
    """The matrix (length, count) of linear interpolation; a single number is the first one, as in MXNet."""
    matrix = np.zeros((length, count))
    for i in range(length):
        place = i * (count - 1) / max(1, length - 1) if corners or length == 1 else (i + 0.5) * count / length - 0.5
        low = int(np.floor(np.clip(place, 0, count - 1)))
        share = np.clip(place, 0, count - 1) - low
        matrix[i, low] += 1 - share
        matrix[i, min(low + 1, count - 1)] += share
    return matrix


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (14, 32), (5, 7), (3, 50)])
@pytest.mark.parametrize("shape", SHAPES)
def test_resize(shape, size, corners):
    x, dy = draw(0, *shape), draw(1, *shape[:2], *size)
    rows, columns = (interpolation(count, length, corners) for count, length in zip(shape[2:], size))
    expected = [
        np.einsum("ih,nchw,jw->ncij", rows, x, columns),
        np.einsum("ih,ncij,jw->nchw", rows, dy, columns),
    ]
    attrs = {"height": str(size[0]), "width": str(size[1]), "align_corners": str(corners)}
    assert_close(run("vargfacenet_resize", [x], dy, **attrs), expected)
    stock = {"height": size[0], "width": size[1], "align_corners": corners}
    assert_close(run(mx.nd.contrib.BilinearResize2D, [x], dy, **stock), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_branches_that_meet_in_a_prelu_with_and_without_a_scale(shape):
    x, other, dy = draw(0, *shape), draw(1, *shape), draw(2, *shape)
    slope, weight = draw(3, shape[1]), draw(4, *shape[:2], 1, 1)
    y, dz, dslope = prelu_of(x + other, slope, dy)
    assert_close(run("vargfacenet_join", [x, other, slope], dy), [y, dz, dz, dslope])
    y, dz, dslope = prelu_of(x * weight + other, slope, dy)
    expected = [y, dz * weight, dz, dslope, (dz * x).sum((2, 3), keepdims=True)]
    assert_close(run("vargfacenet_join_scaled", [x, other, slope, weight], dy), expected)


@pytest.mark.parametrize("batch", [1, 3])
def test_excitation(batch):
    x, slope = draw(0, batch, 20, 7, 5), draw(1, 6)
    layers = [draw(2, 6, 20, 1, 1), draw(3, 6), draw(4, 20, 6, 1, 1), draw(5, 20)]
    z = x.astype(np.float64).mean((2, 3)) @ layers[0][:, :, 0, 0].T + layers[1]
    z = np.where(z > 0, z, slope * z) @ layers[2][:, :, 0, 0].T + layers[3]
    inputs = [mx.nd.array(value) for value in (x, *layers[:2], slope, *layers[2:])]
    found = mx.nd.vargfacenet_excitation(*inputs).asnumpy()
    assert_close([found], [1 / (1 + np.exp(-z))[:, :, None, None]])
    inputs[4] = inputs[4][:3]
    with pytest.raises(mx.base.MXNetError, match="input 4 has 18 numbers, expected 120"):
        mx.nd.vargfacenet_excitation(*inputs).wait_to_read()


def test_results_are_the_same_bits_each_time_on_any_cpu_context():
    x, weight, dy = draw(0, 12, 16, 14, 14), draw(1, 32, 8, 3, 3), draw(2, 12, 32, 14, 14)
    attrs = {"stride": "1", "groups": "2", "channels": "32"}
    first = run("vargfacenet_convolution", [x, weight], dy, **attrs)
    for device in (mx.cpu(0), mx.cpu(1)):
        for one, other in zip(first, run("vargfacenet_convolution", [x, weight], dy, device=device, **attrs)):
            np.testing.assert_array_equal(one, other)


def test_what_is_not_a_number_stays_none():
    x = draw(0, 2, 2, 4, 4)
    x[0, 0, 0, 0] = np.nan
    one = np.ones(2, np.float32)
    auxs = [mx.nd.zeros(2), mx.nd.ones(2)]
    attrs = {"eps": "1e-5", "momentum": "0.9", "fix_gamma": "False"}
    found = run("vargfacenet_norm_prelu", [x, one, 0 * one, 0.25 * one], x, auxs=auxs, **attrs)
    assert np.isnan(found[0][:, 0]).all()
    assert np.isfinite(found[0][:, 1]).all()


def test_other_types_than_float32_are_refused():
    with pytest.raises(mx.base.MXNetError, match="float32 only"):
        mx.nd.vargfacenet_prelu(mx.nd.ones((1, 2, 3), dtype="float64"), mx.nd.ones(2, dtype="float64")).wait_to_read()
