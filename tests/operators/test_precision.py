"""Graphs in half precision: what is rounded, what stays, and that nothing else changes."""

import json

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.operators import in_half_precision, runnable
from vargfacenet.symbols import get_symbol

SHAPE = (2, 3, 112, 112)
NETWORKS = {
    "vargfacenet": {"multiplier": 0.25, "units": (1, 1, 1), "embedding_size": 16},
    "resnet18": {"multiplier": 0.25, "embedding_size": 16},
    "mobilefacenet": {"embedding_size": 16},
}


def graphs(name, dtype):
    single = runnable(get_symbol(name, **NETWORKS[name]), for_training=True, backend="basic")
    return single, in_half_precision(single, data_shape=SHAPE, dtype=dtype)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_statistics_and_results_stay_float32_and_convolutions_do_not(name):
    single, half = graphs(name, "float16")
    assert half.list_arguments() == single.list_arguments()
    assert half.list_auxiliary_states() == single.list_auxiliary_states()
    assert half.list_outputs() == single.list_outputs()
    assert half.infer_shape(data=SHAPE) == single.infer_shape(data=SHAPE)
    arguments, outputs, states = half.infer_type(data="float32")
    assert {np.dtype(kind).name for kind in (*arguments, *outputs, *states)} == {"float32"}
    internals = half.get_internals()
    kinds = dict(zip(internals.list_outputs(), internals.infer_type(data="float32")[1]))
    nodes = json.loads(half.tojson())["nodes"]
    seen = set()
    for node in nodes:
        if node["op"] in ("Convolution", "FullyConnected", "BatchNorm", "Activation", "elemwise_add"):
            seen.add(node["op"])
            output = kinds.get(f"{node['name']}_output")
            assert np.dtype(output).name == "float16", node["name"]
    assert {"Convolution", "BatchNorm", "elemwise_add"} <= seen


@pytest.mark.parametrize("name", NETWORKS)
def test_with_casts_that_change_nothing_values_and_gradients_are_the_same(name):
    """The CPU has no half precision: the same rewriting with casts from float32 to float32."""
    results, random = [], np.random.RandomState(0)
    drawn = {}
    for symbol in graphs(name, "float32"):
        executor = symbol.simple_bind(mx.cpu(), grad_req="write", data=SHAPE)
        for key, array in {**executor.arg_dict, **executor.aux_dict}.items():
            if key not in drawn:
                high = 255 if key == "data" else 1
                drawn[key] = random.uniform(0.1, high, array.shape) * (0.1 if array.ndim == 4 and high == 1 else 1)
            array[:] = drawn[key]
        mx.random.seed(0)  # for dropout
        output = executor.forward(is_train=True)[0]
        executor.backward([mx.nd.ones(output.shape)])
        results.append((output.asnumpy(), {key: array.asnumpy() for key, array in executor.grad_dict.items()}))
    (expected, gradients), (found, others) = results
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for key, value in gradients.items():
        scale = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(others[key] / scale, value / scale, rtol=0, atol=1e-3, err_msg=key)
