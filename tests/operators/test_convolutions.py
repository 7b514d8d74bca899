"""Native convolutions against NumPy in float64, on shapes that vectors and tiles do not fit."""

import itertools

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.kernels import EPS, assert_close, draw, per_channel, run
from vargfacenet import threads
from vargfacenet.operators.inference import pack_weights

pytestmark = pytest.mark.usefixtures("native")


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
        ((1, 8, 1, 1), 16, 1, 3, 1),  # pairs of rows: one row, odd and even numbers of them, rows narrower than vectors
        ((2, 9, 2, 3), 17, 1, 3, 1),
        ((3, 32, 5, 4), 34, 2, 3, 1),
        ((7, 16, 3, 9), 16, 1, 3, 1),
        ((1, 24, 8, 17), 40, 1, 3, 1),
        ((2, 8, 28, 28), 16, 1, 3, 1),
    ],
)
def test_convolution(shape, outputs, groups, kernel, stride):
    x, weight = draw(0, *shape), draw(1, outputs, shape[1] // groups, kernel, kernel)
    dy = draw(2, shape[0], outputs, (shape[2] - 1) // stride + 1, (shape[3] - 1) // stride + 1)
    attrs = {"stride": str(stride), "groups": str(groups), "channels": str(outputs)}
    found = run("vargfacenet_convolution", [x, weight], dy, **attrs)
    assert_close(found, convolution_of(x, weight, dy, stride, groups))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("place", [(0, 0), (3, 2), (4, 6), (7, 8)])
def test_nan_reaches_the_outputs_that_depend_on_it_alone(stride, place):
    x, weight = draw(0, 2, 8, 8, 9), draw(1, 16, 8, 3, 3)
    size = (7 // stride + 1, 8 // stride + 1)
    attrs = {"stride": str(stride), "groups": "1", "channels": "16"}
    mark = np.zeros_like(x)
    mark[1, 5][place] = 1
    reached = convolution_of(mark, np.ones_like(weight), np.zeros((2, 16, *size)), stride, 1)[0] > 0
    x[1, 5][place] = np.nan
    found = mx.nd.vargfacenet_convolution(mx.nd.array(x), mx.nd.array(weight), **attrs).asnumpy()
    np.testing.assert_array_equal(np.isnan(found), reached)


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
    inputs = [mx.nd.array(value) for value in (x, pack_weights(weight, groups, stride), shift, slope)]
    assert_close([mx.nd.vargfacenet_packed(*inputs[:3], **attrs).asnumpy()], [z])
    found = mx.nd.vargfacenet_packed_prelu(*inputs, **attrs).asnumpy()
    assert_close([found], [np.where(z > 0, z, per_channel(slope) * z)])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("outputs", "groups"), [(16, 2), (6, 2), (20, 2), (16, 16)])
def test_several_convolutions_of_one_input(outputs, groups, stride):
    """Weights, shifts and slopes follow one another group by group; each convolution has its own output."""
    x, size = draw(0, 3, 16, 7, 7), 6 // stride + 1
    weights = [draw(seed, outputs, 16 // groups, 3, 3) for seed in (1, 2, 3)]
    shifts, slopes = ([draw(seed + number, outputs) for number in range(3)] for seed in (4, 7))

    def together(arrays):
        parts = [array.reshape(groups, -1, *array.shape[1:]) for array in arrays]
        return np.concatenate(parts, axis=1).reshape(-1, *arrays[0].shape[1:])

    packed = pack_weights(together(weights), groups, stride)
    inputs = [mx.nd.array(value) for value in (x, packed, together(shifts), together(slopes))]
    attrs = {"stride": str(stride), "groups": str(groups), "channels": str(outputs), "kernel": "3", "branches": "3"}
    found = mx.nd.vargfacenet_packed_prelu(*inputs, **attrs)
    dy = np.zeros((3, outputs, size, size))
    for one, weight, shift, slope in zip(found, weights, shifts, slopes):
        z = convolution_of(x, weight, dy, stride, groups)[0] + per_channel(shift)
        assert_close([one.asnumpy()], [np.where(z > 0, z, per_channel(slope) * z)])


def test_several_1x1_convolutions_at_once_are_refused():
    attrs = {"stride": "1", "groups": "1", "channels": "8", "kernel": "1", "branches": "2"}
    weights = mx.nd.array(pack_weights(np.ones((16, 8, 1, 1)), 1, 1))
    with pytest.raises(mx.base.MXNetError, match="several branches of 1x1 convolutions"):
        mx.nd.vargfacenet_packed(mx.nd.ones((1, 8, 5, 5)), weights, mx.nd.ones(16), **attrs)[0].wait_to_read()


def test_packed_weights_of_another_size_are_refused():
    attrs = {"stride": "1", "groups": "1", "channels": "8", "kernel": "3"}
    x, weights, few = mx.nd.ones((1, 7, 5, 5)), mx.nd.array(pack_weights(np.ones((8, 7, 3, 3)), 1, 1)), mx.nd.ones(5)
    with pytest.raises(mx.base.MXNetError, match="input 1 has 5 numbers, expected 504"):
        mx.nd.vargfacenet_packed(x, few, mx.nd.ones(8), **attrs).wait_to_read()
    with pytest.raises(mx.base.MXNetError, match="input 2 has 5 numbers, expected 8"):
        mx.nd.vargfacenet_packed(x, weights, few, **attrs).wait_to_read()
    with pytest.raises(mx.base.MXNetError, match="input 3 has 5 numbers, expected 8"):
        mx.nd.vargfacenet_packed_prelu(x, weights, mx.nd.ones(8), few, **attrs).wait_to_read()


@pytest.mark.parametrize(
    ("shape", "outputs", "groups", "kernel", "stride"),
    [
        ((33, 60, 7, 7), 40, 1, 1, 1),
        ((9, 16, 14, 14), 32, 2, 3, 1),
        ((5, 16, 14, 14), 16, 2, 3, 2),
        ((1, 60, 7, 7), 42, 1, 1, 1),  # one image: threads take parts of the outputs
        ((1, 6, 14, 14), 44, 2, 1, 1),
        ((1, 48, 7, 7), 60, 3, 3, 1),
        ((1, 40, 14, 14), 80, 5, 3, 1),  # whole items for each thread, and parts of the rest
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
