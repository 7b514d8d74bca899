"""Every operator that a checkpoint may hold has a form in PyTorch, with MXNet's values and gradients."""

import mxnet as mx
import numpy as np
import pytest

from tests.torch.compare import drawn_values, in_mxnet, in_pytorch, relative, unequal
from vargfacenet.formats.graphs import _OPERATORS
from vargfacenet.torch.operators import OPERATORS
from vargfacenet.torch.shapes import wanted_shape

IMAGE, ROWS = (2, 6, 7, 5), (4, 6)
s, x, y = mx.sym, mx.sym.var("data"), mx.sym.var("other")

# Name to graph and shape of its input; those of two inputs take two of the shape.
CASES = {
    "Convolution": (
        s.Convolution(x, kernel=(3, 1), num_filter=4, num_group=2, stride=(2, 1), pad=(1, 0), dilate=(1, 2)),
        IMAGE,
    ),
    "Convolution 1d": (s.Convolution(x, kernel=(3,), num_filter=4, no_bias=True), (2, 6, 9)),
    "FullyConnected": (s.FullyConnected(x, num_hidden=3), IMAGE),
    "FullyConnected on tokens": (s.FullyConnected(x, num_hidden=3, flatten=False, no_bias=True), (2, 5, 6)),
    "BatchNorm": (s.BatchNorm(x, fix_gamma=False, momentum=0.7, eps=1e-2), IMAGE),
    "BatchNorm fixed": (s.BatchNorm(x), IMAGE),
    "BatchNorm of rows": (s.BatchNorm(x, fix_gamma=False), ROWS),
    "BatchNorm of one": (s.BatchNorm(x, fix_gamma=False), (1, 6)),
    "BatchNorm global": (s.BatchNorm(x, fix_gamma=False, use_global_stats=True), IMAGE),
    "prelu": (s.LeakyReLU(x, act_type="prelu"), IMAGE),
    "prelu with one slope": (s.LeakyReLU(x, s.var("slope_gamma", shape=(1,)), act_type="prelu"), IMAGE),
    "leaky": (s.LeakyReLU(x, act_type="leaky", slope=0.1), IMAGE),
    "elu": (s.LeakyReLU(x, act_type="elu", slope=0.3), IMAGE),
    "gelu": (s.LeakyReLU(x, act_type="gelu"), IMAGE),
    **{kind: (s.Activation(x, act_type=kind), IMAGE) for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign")},
    "InstanceNorm": (s.InstanceNorm(x, eps=1e-2), IMAGE),
    "LayerNorm": (s.LayerNorm(x, axis=-1, eps=1e-2), (2, 5, 6)),
    "LayerNorm of an axis": (s.LayerNorm(x, axis=1), (2, 6, 5)),
    **{f"L2Normalization {m}": (s.L2Normalization(x, mode=m), IMAGE) for m in ("instance", "channel", "spatial")},
    "LRN": (s.LRN(x, nsize=3, alpha=0.1), IMAGE),
    "max": (s.Pooling(x, kernel=(3, 2), stride=(2, 1), pad=(1, 0), pool_type="max"), IMAGE),
    "avg": (s.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"), IMAGE),
    "avg without padding": (
        s.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", count_include_pad=False),
        IMAGE,
    ),
    "global avg": (s.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", pooling_convention="full"), IMAGE),
    "global max": (s.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="max"), IMAGE),
    "dropout": (s.Dropout(x, p=0.0), IMAGE),
    "hard_sigmoid": (s.hard_sigmoid(x, alpha=0.3, beta=0.4), IMAGE),
    "resize": (s.contrib.BilinearResize2D(x, height=10, width=9), IMAGE),
    "resize without corners": (s.contrib.BilinearResize2D(x, height=10, width=9, align_corners=False), IMAGE),
    "Concat": (s.Concat(x, y, dim=2), IMAGE),
    "SliceChannel": (s.SliceChannel(x, num_outputs=3)[1], IMAGE),
    "SliceChannel squeezed": (s.SliceChannel(x, num_outputs=6, squeeze_axis=True)[2], IMAGE),
    "slice_axis": (s.slice_axis(x, axis=1, begin=-4, end=None), IMAGE),
    "SwapAxis": (s.SwapAxis(x, dim1=1, dim2=3), IMAGE),
    "transpose": (s.transpose(x, axes=(0, 2, 3, 1)), IMAGE),
    "transpose all": (s.transpose(x), IMAGE),
    "Flatten": (s.Flatten(x), IMAGE),
    "Reshape": (s.reshape(x, shape=(0, -4, 2, -1, -2)), IMAGE),
    "Reshape joined": (s.reshape(x, shape=(0, -3, -1)), IMAGE),
    "Pad": (s.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 0, 1), constant_value=3), IMAGE),
    "Pad edge": (s.Pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 2, 0, 1)), IMAGE),
    "Pad reflect": (s.Pad(x, mode="reflect", pad_width=(0, 0, 0, 0, 1, 2, 0, 1)), IMAGE),
    "sum": (s.sum(x, axis=(1, 3), keepdims=True), IMAGE),
    "sum of all": (s.sum(x), IMAGE),
    "mean excluding": (s.mean(x, axis=1, exclude=True), IMAGE),
    "norm": (s.norm(x, ord=2, axis=2, keepdims=True), IMAGE),
    "norm 1": (s.norm(x, ord=1, axis=1), IMAGE),
    "softmax": (s.softmax(x, axis=1, temperature=2.0), ROWS),
    "log_softmax": (s.log_softmax(x, axis=1), ROWS),
    "batch_dot": (s.batch_dot(x, y, transpose_b=True), (3, 4, 5)),
    "dot": (s.dot(x, y, transpose_b=True), ROWS),
    "dot transposed": (s.dot(x, y, transpose_a=True), ROWS),
    "arange_like": (s.broadcast_mul(x, s.expand_dims(s.contrib.arange_like(x, axis=0), axis=1)), ROWS),
    "not equal": (s.broadcast_not_equal(s.floor(x), s.floor(y)) * x, ROWS),
    "ones_like": (s.ones_like(x) + x, ROWS),
    "smooth_l1": (s.smooth_l1(x, scalar=1.5), IMAGE),
    "max of rows": (s.max(x, axis=1), ROWS),
    "max of all": (s.max(x), ROWS),
    "max of equals": (s.max(s.floor(x) + x - s.BlockGrad(x), axis=1, keepdims=True), ROWS),
    "clip": (s.clip(x, -0.5, 0.7), IMAGE),
    "broadcast_to": (s.broadcast_to(s.expand_dims(x, axis=0), shape=(3, 4, 0)), ROWS),
    "add_n": (s.add_n(x, y, x), IMAGE),
    "scalars": (1 - ((x + 2) * 3 - 1) / 4, IMAGE),
    "over a scalar": (2 / (x + 5), IMAGE),
    "maximum": (s.maximum(x, 0.1), IMAGE),
    "exp": (s.exp(x), IMAGE),
    "sin": (s.sin(x), IMAGE),
    "sqrt of square": (s.sqrt(s.square(x) + 1), IMAGE),
    "BlockGrad": (s.BlockGrad(x) * x, IMAGE),
    **{f"elemwise {n}": (getattr(s, f"elemwise_{n}")(x, y), IMAGE) for n in ("add", "sub", "mul", "div")},
    **{
        f"broadcast {n}": (getattr(s, f"broadcast_{n}")(x, s.sum(y, axis=1, keepdims=True)), IMAGE)
        for n in ("add", "sub", "mul")
    },
}
# Graphs at numbers where their gradients jump: graph and inputs.
EDGES = {
    "broadcast_maximum": (s.broadcast_maximum(x, y), [[1.0, 2.0, 3.0, -1.0], [1.0, 2.0, 0.0, 5.0]]),
    "broadcast_minimum": (s.broadcast_minimum(x, y), [[1.0, 2.0, 3.0, -1.0], [1.0, 2.0, 0.0, 5.0]]),
    "global max pooling": (
        s.Pooling(s.reshape(x, shape=(1, 2, 2, 2)), global_pool=True, kernel=(1, 1), pool_type="max"),
        [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]],
    ),
    "hard_sigmoid": (s.hard_sigmoid(x), [[2.5, -2.5, 0.0, 7.0, -7.0]]),
    "clip": (s.clip(x, -1, 2), [[2.0, -1.0, 0.0, 3.0]]),
    "relu": (s.relu(x), [[0.0, -0.0, 1.0]]),
    "PReLU": (s.LeakyReLU(x, y, act_type="prelu"), [[0.0, -0.0, 1.0], [0.25, 0.7, -1.0]]),
    "max of infinite numbers": (s.max(x, axis=1), [[1.0, np.inf, 2.0]]),
}
FLOAT32 = {"InstanceNorm", "LRN"}  # which MXNet has in nothing else


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_that_of_mxnet(name):
    symbol, shape = CASES[name]
    names = [one for one in ("data", "other") if one in symbol.list_arguments()]
    random = np.random.RandomState(0)
    inputs = {one: random.normal(0.1, 1, shape) for one in names}
    values = drawn_values(symbol, **dict.fromkeys(names, shape))
    out = symbol.infer_shape(**dict.fromkeys(names, shape))[1]
    directions = [np.random.RandomState(1).normal(size=one) for one in out]
    dtype, allowed = ("float32", 1e-5) if name in FLOAT32 else ("float64", 1e-6)
    for training in (True, False):
        ours = in_pytorch(symbol, inputs, values, training=training, directions=directions)
        theirs = in_mxnet(symbol, inputs, values, training=training, directions=directions, dtype=dtype)
        for found, expected in zip(ours[0], theirs[0]):
            assert found.shape == expected.shape
            assert relative(found, expected, 1e-6) < allowed
        assert unequal(ours[1], theirs[1], allowed=1e-5) == {}
        for statistic, value in theirs[2].items():
            assert relative(ours[2][statistic], value) < 1e-6


@pytest.mark.parametrize("name", EDGES)
def test_where_a_gradient_jumps_it_is_that_of_mxnet(name):
    symbol, numbers = EDGES[name]
    inputs = {one: np.array([row]) for one, row in zip(("data", "other"), numbers)}
    if name == "PReLU":
        inputs["other"] = inputs["other"][0]
    ours, theirs = (one(symbol, inputs, {}, training=True) for one in (in_pytorch, in_mxnet))
    np.testing.assert_array_equal(ours[0][0], theirs[0][0])
    if name != "max of infinite numbers":
        for one in inputs:
            np.testing.assert_allclose(ours[1][one], theirs[1][one], err_msg=one)


def test_every_operator_that_a_checkpoint_may_hold_is_known():
    # Those of graphs that MXNet has rewritten to the names of today when it read them.
    assert sorted(set(_OPERATORS) - set(OPERATORS)) == []


@pytest.mark.parametrize("normalization", ["null", "batch", "valid"])
def test_make_loss_has_a_gradient_of_its_own(normalization):
    symbol = mx.sym.MakeLoss(mx.sym.square(x), grad_scale=3, normalization=normalization, valid_thresh=0.5)
    inputs = {"data": np.random.RandomState(0).normal(size=ROWS)}
    ours, theirs = (one(symbol, inputs, {}, training=True) for one in (in_pytorch, in_mxnet))
    assert relative(ours[1]["data"], theirs[1]["data"]) < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"grad_scale": 2.5, "normalization": "batch"},
        {"use_ignore": True, "ignore_label": 1, "normalization": "valid"},
        {"smooth_alpha": 0.1},
        {"multi_output": True},
        {"multi_output": True, "normalization": "batch"},
        {"multi_output": True, "use_ignore": True, "ignore_label": 1, "normalization": "valid"},
    ],
)
def test_softmax_output_has_mxnets_gradient(options):
    several = options.get("multi_output")
    random = np.random.RandomState(0)
    inputs = {
        "data": random.normal(size=(4, 3, 5) if several else (4, 3)),
        "label": random.randint(0, 3, (4, 5) if several else 4).astype(float),
    }
    symbol = mx.sym.SoftmaxOutput(x, mx.sym.var("label"), **options)
    ours, theirs = (one(symbol, inputs, {}, training=True) for one in (in_pytorch, in_mxnet))
    assert relative(ours[0][0], theirs[0][0]) < 1e-6
    assert relative(ours[1]["data"], theirs[1]["data"]) < 1e-6


def test_labels_choose_as_in_mxnet():
    inputs = {"data": np.random.RandomState(0).normal(size=(3, 4)), "label": np.array([0.0, 3.0, 7.0])}
    label = mx.sym.var("label")
    symbol = mx.sym.Group(
        [
            mx.sym.pick(x, label, axis=1),
            mx.sym.BlockGrad(mx.sym.one_hot(label, 4)),
            mx.sym.BlockGrad(mx.sym.broadcast_equal(mx.sym.argmax(x, axis=1), label)),
        ]
    )
    ours, theirs = (one(symbol, inputs, {}, training=False) for one in (in_pytorch, in_mxnet))
    for found, expected in zip(ours[0], theirs[0]):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "codes", "expected"),
    [
        ((2, 3, 4), (0, -1), (2, 12)),
        ((2, 3, 4), (-2, 1, 1), (2, 3, 4, 1, 1)),
        ((2, 3, 4, 5), (-3, -3), (6, 20)),
        ((2, 3, 4), (2, -4, -1, 3, -2), (2, 1, 3, 4)),
        ((2, 3, 4), (-4, 1, 2, -2), (1, 2, 3, 4)),
    ],
)
def test_codes_of_shapes_are_those_of_mxnets_documentation(given, codes, expected):
    assert wanted_shape(given, codes) == expected
