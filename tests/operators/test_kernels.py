"""Each native operator against NumPy in float64, on shapes that vectors do not fit."""

import itertools

import mxnet as mx
import numpy as np
import pytest

from vargfacenet import threads
from vargfacenet.operators.inference import pack_weights

pytestmark = pytest.mark.usefixtures("native")

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 5, 1, 1), (4, 2, 16, 16), (3, 17, 7, 7), (2, 1, 33, 2)]
EPS, MOMENTUM = 1e-3, 0.75


def draw(seed, *shape):
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def run(operator, inputs, dy, *, auxs=(), device=None, **attrs):
    """First output, and the gradients of `inputs`, for a gradient `dy` of the output."""
    device = device or mx.cpu()
    arrays = [mx.nd.array(value, ctx=device) for value in inputs]
    for array in arrays:
        array.attach_grad()
    with mx.autograd.record():
        outputs = (operator if callable(operator) else getattr(mx.nd, operator))(*arrays, *auxs, **attrs)
        y = outputs[0] if isinstance(outputs, list) else outputs
    y.backward(mx.nd.array(dy, ctx=device))
    return [value.asnumpy() for value in (y, *(array.grad for array in arrays))]


def assert_close(found, expected):
    for number, (one, other) in enumerate(zip(found, expected)):
        other = np.asarray(other)
        assert one.shape == other.shape
        np.testing.assert_allclose(
            one, other, rtol=1e-4, atol=1e-5 * max(1, np.abs(other).max()), err_msg=f"result {number}"
        )


def per_channel(values):
    return np.asarray(values, np.float64)[None, :, None, None]


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


def convolution_of(x, weight, dy, stride, groups):
    """A convolution that keeps the size of the image, with its gradients, tap by tap."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    kernel, pad = weight.shape[2], weight.shape[2] // 2
    wide = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y, dwide, dweight = np.zeros(dy.shape), np.zeros_like(wide), np.zeros_like(weight)
    ins, outs = x.shape[1] // groups, weight.shape[0] // groups
    rows, columns = dy.shape[2] * stride, dy.shape[3] * stride
    for g, i, j in itertools.product(range(groups), range(kernel), range(kernel)):
        a, b = slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)
        seen = (slice(None), a, slice(i, i + rows, stride), slice(j, j + columns, stride))
        y[:, b] += np.einsum("nchw,oc->nohw", wide[seen], weight[b, :, i, j])
        dwide[seen] += np.einsum("nohw,oc->nchw", dy[:, b], weight[b, :, i, j])
        dweight[b, :, i, j] = np.einsum("nohw,nchw->oc", dy[:, b], wide[seen])
    return y, dwide[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]], dweight


@pytest.mark.parametrize(
    ("shape", "outputs", "groups", "kernel", "stride"),
    [
        ((1, 3, 9, 7), 5, 1, 3, 1),  # few images, odd sizes
        ((2, 8, 7, 7), 16, 1, 3, 1),
        ((5, 16, 14, 14), 32, 2, 3, 1),
        ((2, 16, 7, 9), 16, 2, 3, 2),  # stride 2 on odd and even sizes
        ((3, 16, 8, 6), 16, 2, 3, 2),
        ((2, 2, 9, 8), 3, 1, 5, 2),
        ((2, 6, 8, 7), 10, 1, 1, 2),
        ((33, 5, 7, 7), 7, 1, 1, 1),  # images worked on together
        ((2, 40, 8, 8), 24, 1, 1, 1),  # whole vectors
        ((2, 6, 28, 28), 18, 2, 1, 1),  # whole vectors in several pieces
        ((9, 53, 7, 7), 11, 1, 1, 1),  # more channels than pass by at a time, several blocks of tiles
        ((3, 12, 5, 5), 21, 3, 1, 1),
        ((1, 7, 3, 17), 9, 1, 1, 1),  # tiles of which parts are left
        ((1, 4, 1, 1), 4, 1, 3, 1),
        ((4, 1, 2, 3), 1, 1, 1, 1),
        ((2, 160, 28, 28), 20, 20, 3, 1),
        ((2, 12, 7, 7), 4, 4, 1, 1),  # groups of several channels with one output
        ((2, 8, 7, 7), 1, 1, 1, 2),
        ((1, 8, 14, 14), 1, 1, 1, 1),
    ],
)
def test_convolution(shape, outputs, groups, kernel, stride):
    x, weight = draw(0, *shape), draw(1, outputs, shape[1] // groups, kernel, kernel)
    dy = draw(2, shape[0], outputs, (shape[2] - 1) // stride + 1, (shape[3] - 1) // stride + 1)
    attrs = {"stride": str(stride), "groups": str(groups), "channels": str(outputs)}
    found = run("vargfacenet_convolution", [x, weight], dy, **attrs)
    assert_close(found, convolution_of(x, weight, dy, stride, groups))


@pytest.mark.parametrize("outputs", [16, 24])
@pytest.mark.parametrize("fix_gamma", [False, True])
def test_convolution_with_norm_and_prelu_for_inference(outputs, fix_gamma):
    """A group per channel (16), and groups of several."""
    groups = 16 if outputs == 16 else 8
    x, weight = draw(0, 3, 16, 7, 7), draw(1, outputs, 16 // groups, 3, 3)
    gamma, beta, mean, slope = (draw(seed, outputs) for seed in (2, 3, 4, 5))
    variance = np.abs(draw(6, outputs)) + 0.1
    y = convolution_of(x, weight, np.zeros((3, outputs, 7, 7)), 1, groups)[0]
    scale = (1 if fix_gamma else gamma) / np.sqrt(variance + EPS)
    z = (y - per_channel(mean)) * per_channel(scale) + per_channel(beta)
    attrs = {"stride": "1", "groups": str(groups), "channels": str(outputs)}
    attrs.update(eps=str(EPS), fix_gamma=str(fix_gamma), momentum="0.9")
    inputs = [mx.nd.array(value) for value in (x, weight, gamma, beta, mean, variance)]
    assert_close([mx.nd.vargfacenet_inference(*inputs, **attrs).asnumpy()], [z])
    found = mx.nd.vargfacenet_inference_prelu(*inputs, mx.nd.array(slope), **attrs).asnumpy()
    assert_close([found], [np.where(z > 0, z, per_channel(slope) * z)])


@pytest.mark.parametrize(("outputs", "groups"), [(24, 8), (16, 16), (8, 8), (1, 1), (18, 2), (7, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_convolution_with_packed_weights(outputs, groups, kernel, stride):
    """Whole tiles of outputs and parts of them, a group per channel, and groups of several channels with one output."""
    x, weight = draw(0, 1, 16, 7, 7), draw(1, outputs, 16 // groups, kernel, kernel)
    shift, slope, size = draw(2, outputs), draw(3, outputs), 6 // stride + 1
    z = convolution_of(x, weight, np.zeros((1, outputs, size, size)), stride, groups)[0] + per_channel(shift)
    attrs = {"stride": str(stride), "groups": str(groups), "channels": str(outputs), "kernel": str(kernel)}
    inputs = [mx.nd.array(value) for value in (x, pack_weights(weight, groups), shift, slope)]
    assert_close([mx.nd.vargfacenet_packed(*inputs[:3], **attrs).asnumpy()], [z])
    found = mx.nd.vargfacenet_packed_prelu(*inputs, **attrs).asnumpy()
    assert_close([found], [np.where(z > 0, z, per_channel(slope) * z)])


def test_packed_weights_of_another_size_are_refused():
    attrs = {"stride": "1", "groups": "1", "channels": "8", "kernel": "3"}
    x, weights, few = mx.nd.ones((1, 8, 5, 5)), mx.nd.array(pack_weights(np.ones((8, 8, 3, 3)), 1)), mx.nd.ones(5)
    with pytest.raises(mx.base.MXNetError, match="input 1 has 5 numbers, expected 576"):
        mx.nd.vargfacenet_packed(x, few, mx.nd.ones(8), **attrs).wait_to_read()
    with pytest.raises(mx.base.MXNetError, match="input 2 has 5 numbers, expected 8"):
        mx.nd.vargfacenet_packed(x, weights, few, **attrs).wait_to_read()
    with pytest.raises(mx.base.MXNetError, match="input 3 has 5 numbers, expected 8"):
        mx.nd.vargfacenet_packed_prelu(x, weights, mx.nd.ones(8), few, **attrs).wait_to_read()


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


@pytest.mark.parametrize(
    ("shape", "outputs", "groups", "kernel", "stride"),
    [
        ((33, 60, 7, 7), 40, 1, 1, 1),
        ((9, 16, 14, 14), 32, 2, 3, 1),
        ((5, 16, 14, 14), 16, 2, 3, 2),
        ((1, 60, 7, 7), 42, 1, 1, 1),  # one image: threads take parts of the outputs
        ((1, 6, 14, 14), 44, 2, 1, 1),
        ((1, 48, 7, 7), 60, 3, 3, 1),
    ],
)
def test_results_do_not_depend_on_the_number_of_threads(shape, outputs, groups, kernel, stride):
    x, weight = draw(0, *shape), draw(1, outputs, shape[1] // groups, kernel, kernel)
    dy = draw(2, shape[0], outputs, (shape[2] - 1) // stride + 1, (shape[3] - 1) // stride + 1)
    attrs = {"stride": str(stride), "groups": str(groups), "channels": str(outputs)}
    before, found = threads.threads_in_use(), []
    try:
        for count in (1, 2, 5):
            threads._run_in_worker(mx, lambda openmp, count=count: openmp.omp_set_num_threads(count))
            assert threads.threads_in_use() == count
            found.append(run("vargfacenet_convolution", [x, weight], dy, **attrs))
    finally:
        threads._run_in_worker(mx, lambda openmp: openmp.omp_set_num_threads(before))
    for other in found[1:]:
        for one, same in zip(found[0], other):
            np.testing.assert_array_equal(one, same)
