"""Gradients of whole graphs and of blocks, and forms of them to compare with."""

import mxnet as mx
import numpy as np

from vargfacenet.operators import runnable
from vargfacenet.operators.nodes import Copy

DATA = (4, 3, 112, 112)


def independent_prelu(symbol):
    """The graph with every PReLU as two rectifiers and a broadcast product."""
    copy = Copy(symbol, DATA)
    for node in copy.old:
        attrs = node.get("attrs", {})
        if node["op"] != "LeakyReLU" or attrs["act_type"] != "prelu":
            copy.place(node["op"], node["name"], copy.inputs(node), **attrs)
            continue
        (x, slope), name = copy.inputs(node), node["name"]
        copy.set_shape(slope, copy.shape(node, 1))
        negative = copy.add("relu", f"{name}_negative", [copy.add("negative", f"{name}_minus", [x])])
        row = copy.add("Reshape", f"{name}_row", [slope], shape="(1, -1, 1, 1)")
        scaled = copy.add("broadcast_mul", f"{name}_scaled", [row, negative])
        copy.place("elemwise_sub", name, [copy.add("relu", f"{name}_positive", [x]), scaled])
    return runnable(copy.symbol(), for_training=True, backend="stock")


def random_values(symbol):
    """Arguments and auxiliary states that keep a network's numbers in proportion (two dicts of arrays)."""
    random = np.random.RandomState(0)
    args, _, auxs = symbol.infer_shape(data=DATA)
    values = {}
    for name, shape in zip(symbol.list_arguments(), args):
        if name == "data":
            values[name] = random.uniform(0, 255, shape)
        elif name.endswith("weight"):
            values[name] = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith(("beta", "bias")):
            values[name] = random.normal(0, 0.02, shape)
        else:
            values[name] = random.uniform(0.4, 0.9, shape)
    return values, {name: np.full(shape, 0.5) for name, shape in zip(symbol.list_auxiliary_states(), auxs)}


def gradients(symbol, values, auxs):
    """Outputs, and gradients of every argument for a random direction of the output, in training mode."""
    executor = symbol.simple_bind(mx.cpu(), data=values["data"].shape, grad_req="write")
    executor.copy_params_from(*({n: mx.nd.array(v) for n, v in part.items()} for part in (values, auxs)))
    executor.forward(is_train=True)
    direction = np.random.RandomState(1).normal(size=executor.outputs[0].shape)
    executor.backward(mx.nd.array(direction))
    return executor.outputs[0].asnumpy(), {name: g.asnumpy() for name, g in executor.grad_dict.items()}


def unequal(found, expected, *, allowed=0.05):
    """Names of the gradients that are not those expected, and by how much of their length (dict)."""
    # A bias before BN has no gradient but rounding.
    least = 1e-3 * max(np.abs(gradient).max() for name, gradient in expected.items() if name != "data")
    shares = {
        name: float(
            np.linalg.norm(found[name] - gradient) / (np.linalg.norm(gradient) + least * np.sqrt(gradient.size))
        )
        for name, gradient in expected.items()
    }
    return {name: share for name, share in shares.items() if not share <= allowed}


def directional_errors(symbol, data_shape, *, step=1e-2):
    """Relative error of each argument's gradient along a random direction, against a central difference (dict)."""
    random = np.random.RandomState(2)
    executor = symbol.simple_bind(mx.cpu(), data=data_shape, grad_req="write")
    for array in executor.arg_dict.values():
        array[:] = random.uniform(0.3, 1.2, array.shape) * random.choice([-1, 1], array.shape)
    executor.forward(is_train=True)
    weights = random.normal(size=executor.outputs[0].shape)
    executor.backward(mx.nd.array(weights))
    found = {name: gradient.asnumpy().astype(np.float64) for name, gradient in executor.grad_dict.items()}
    errors = {}
    for name, array in executor.arg_dict.items():
        direction = random.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        start, sides = array.asnumpy(), []
        for sign in (1, -1):
            array[:] = start + sign * step * direction
            [output] = executor.forward(is_train=True)
            sides.append((output.asnumpy().astype(np.float64) * weights).sum())
        array[:] = start
        expected = (sides[0] - sides[1]) / (2 * step)
        error = abs((found[name] * direction).sum() - expected)
        errors[name] = error / (abs(expected) + 0.01 * np.linalg.norm(found[name]) + 1e-2)
    return errors
