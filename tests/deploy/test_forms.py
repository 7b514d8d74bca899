"""ONNX forms of single operators against MXNet, and the uses of them that have none."""

import mxnet as mx
import numpy as np
import onnxruntime
import pytest

from vargfacenet.deploy.translate import translate
from vargfacenet.errors import ExportError
from vargfacenet.formats.checkpoint import Checkpoint


def small():
    """(N, 3, 112, 112) -> (N, 3, 7, 8)"""
    x = mx.sym.Pooling(mx.sym.var("data"), kernel=(16, 14), stride=(16, 14), pool_type="avg", name="small")
    return (x - 127.5) / 16


def tokens():
    """(N, 56, 3)"""
    return mx.sym.transpose(mx.sym.reshape(small(), shape=(0, 0, -1), name="rows"), axes=(0, 2, 1), name="tokens")


def attention():
    x = mx.sym.swapaxes(tokens(), dim1=1, dim2=2)
    length = mx.sym.maximum(mx.sym.norm(x, ord=2, axis=2, keepdims=True), 1e-12)
    y = mx.sym.broadcast_div(x, length)
    return mx.sym.batch_dot(mx.sym.softmax(mx.sym.batch_dot(y, y, transpose_b=True), axis=-1), x)


def joined():
    x = small()
    return mx.sym.concat(x, x * 2, dim=1)


def resized(height, width, **options):
    return mx.sym.contrib.BilinearResize2D(small(), height=height, width=width, **{"align_corners": False, **options})


def padded(mode="constant"):
    return mx.sym.pad(small(), mode=mode, pad_width=(0, 0, 0, 0, 0, 1, 2, 3), constant_value=0.5)


def shifted_by_positions():
    positions = mx.sym.sin(mx.sym.exp(mx.sym.arange(0, 4, step=1, repeat=2)))
    return mx.sym.broadcast_add(small(), mx.sym.broadcast_to(positions.reshape((1, 1, 1, 8)), shape=(1, 1, 7, 8)))


FORMS = {
    "layer norm": lambda: mx.sym.LayerNorm(tokens(), axis=-1, eps=1e-6, name="ln"),
    "gelu": lambda: mx.sym.LeakyReLU(small(), act_type="gelu"),
    "linear on tokens": lambda: mx.sym.FullyConnected(tokens(), num_hidden=5, flatten=False, name="fc"),
    "linear without bias": lambda: mx.sym.FullyConnected(
        tokens(), num_hidden=5, flatten=False, no_bias=True, name="fc"
    ),
    "attention": attention,
    "concat": joined,
    "slice": lambda: mx.sym.slice_axis(mx.sym.slice_axis(small(), axis=2, begin=1, end=None), axis=1, begin=0, end=2),
    "pad": padded,
    "resize up": lambda: resized(14, 19),
    "resize down": lambda: resized(5, 3),
    "hard sigmoid": lambda: mx.sym.hard_sigmoid(small(), alpha=1 / 6, beta=0.5),
    "mean": lambda: mx.sym.mean(small(), axis=(2, 3), keepdims=True),
    "what no image changes": shifted_by_positions,
    "one slope": lambda: mx.sym.LeakyReLU(
        small(), gamma=mx.sym.var("slope_gamma", shape=(1,)), act_type="prelu", name="slope"
    ),
}


def checkpoint_of(symbol):
    symbol = mx.sym.Flatten(symbol, name="fc1")
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(2, 3, 112, 112))[0]))
    random = np.random.RandomState(0)
    args = {n: mx.nd.array(random.uniform(-0.5, 0.9, shape)) for n, shape in shapes.items() if n != "data"}
    return Checkpoint(symbol, args, {})


@pytest.mark.parametrize("form", FORMS)
def test_a_form_computes_what_mxnet_does(form):
    checkpoint = checkpoint_of(FORMS[form]())
    images = np.random.RandomState(1).randint(0, 256, (3, 3, 112, 112)).astype(np.float32)
    executor = checkpoint.symbol.bind(mx.cpu(), {**checkpoint.args, "data": mx.nd.array(images)})
    expected = executor.forward()[0].asnumpy()
    model = translate(checkpoint).to_onnx(opset=11, ir_version=6)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (3, 1):
        [found] = session.run(None, {"data": images[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: mx.sym.LayerNorm(small(), axis=1, name="ln"),
            "LayerNorm 'ln' is over axis 1; only the last is supported",
        ),
        (lambda: resized(14, 14, align_corners=True), "aligns corners or has a mode other than size"),
        (lambda: padded("edge"), "has the mode edge; only constant is supported"),
        (lambda: mx.sym.norm(small(), ord=1, axis=1), "is not the L2 norm over one axis"),
        (lambda: mx.sym.mean(small(), axis=1, exclude=True), "excludes the axes that it names"),
        (lambda: mx.sym.softmax(small(), axis=1), "is not over the last axis, or has a temperature"),
        (lambda: mx.sym.exp(small(), name="e"), "exp on data that depend on the image has no form in ONNX here"),
        (
            lambda: mx.sym.LeakyReLU(small(), act_type="selu"),
            "has the type selu; supported are prelu, gelu, leaky and elu",
        ),
    ],
)
def test_a_use_without_a_form_is_refused(build, message):
    with pytest.raises(ExportError, match=message):
        translate(checkpoint_of(build()))
