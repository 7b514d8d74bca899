"""A small regression without batch normalisation, for tests of optimizers: as a graph, and in NumPy."""

import mxnet as mx
import numpy as np

ROWS, COLUMNS, HIDDEN = 12, 4, 5
NAMES = ("a_weight", "a_bias", "b_weight", "b_bias")


def regression():
    """A graph whose output is the squared error of each sample of a network of two layers."""
    hidden = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=HIDDEN, name="a")
    found = mx.sym.FullyConnected(mx.sym.Activation(hidden, act_type="relu"), num_hidden=1, name="b")
    error = mx.sym.Reshape(found, shape=(-1,)) - mx.sym.var("label")
    return mx.sym.MakeLoss(mx.sym.square(error), name="loss")


def regression_batch(update):
    random = np.random.RandomState(100 + update)
    data, label = random.normal(size=(ROWS, COLUMNS)), random.normal(size=ROWS)
    return mx.io.DataBatch([mx.nd.array(data)], [mx.nd.array(label)])


def start_values():
    random = np.random.RandomState(7)
    shapes = {"a_weight": (HIDDEN, COLUMNS), "a_bias": (HIDDEN,), "b_weight": (1, HIDDEN), "b_bias": (1,)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def mean_gradients(values, update):
    """Gradients of the mean loss of a batch, in float64."""
    batch = regression_batch(update)
    data, label = batch.data[0].asnumpy().astype(np.float64), batch.label[0].asnumpy().astype(np.float64)
    hidden = data @ values["a_weight"].T + values["a_bias"]
    active = np.maximum(hidden, 0)
    slope = 2 * (active @ values["b_weight"].T + values["b_bias"] - label[:, None]) / ROWS
    below = slope @ values["b_weight"] * (hidden > 0)
    return {
        "a_weight": below.T @ data,
        "a_bias": below.sum(0),
        "b_weight": slope.T @ active,
        "b_bias": slope.sum(0),
    }
