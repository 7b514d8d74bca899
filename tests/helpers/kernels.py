"""Native operators on arrays of NumPy."""

import mxnet as mx
import numpy as np

EPS = 1e-3


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
