"""The same graph in MXNet and in PyTorch, on the same numbers."""

import contextlib

import mxnet as mx
import numpy as np
import pytest
import torch

from vargfacenet.torch.graph import SymbolModule
from vargfacenet.torch.sharded import TorchShardedTrainer
from vargfacenet.torch.trainer import TorchTrainer


def drawn_values(symbol, *, seed=0, **shapes):
    """Parameters and running statistics in proportion, float64 (dict of name to array)."""
    random = np.random.RandomState(seed)
    args, _, auxs = symbol.infer_shape(**shapes)
    values = {}
    for name, shape in zip(symbol.list_arguments(), args):
        if name in shapes:
            continue
        if name.endswith("weight"):
            values[name] = random.normal(0, np.sqrt(2 / max(1, np.prod(shape[1:]))), shape)
        elif name.endswith(("beta", "bias")):
            values[name] = random.normal(0, 0.02, shape)
        else:
            values[name] = random.uniform(0.4, 0.9, shape)
    for name, shape in zip(symbol.list_auxiliary_states(), auxs):
        values[name] = random.uniform(0.5, 1.5, shape)
    return {name: value.astype(np.float32).astype(np.float64) for name, value in values.items()}


def in_mxnet(symbol, inputs, values, *, training, dtype="float64", directions=None):
    """Outputs, gradients and running statistics of a graph in MXNet.

    `inputs` and `values` are dicts of arrays; `directions` are the gradients of the outputs, all 1 by default.
    """
    given = {**inputs, **values}
    executor = symbol.simple_bind(
        mx.cpu(),
        grad_req="write" if training else "null",
        type_dict=dict.fromkeys(symbol.list_arguments(), dtype),
        **{name: value.shape for name, value in inputs.items()},
    )
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        array[:] = mx.nd.array(given[name], dtype=dtype)
    outputs = executor.forward(is_train=training)
    if not training:
        return [output.asnumpy() for output in outputs], {}, {}
    heads = directions or [np.ones(output.shape) for output in outputs]
    executor.backward([mx.nd.array(head, dtype=dtype) for head in heads])
    gradients = {name: gradient.asnumpy() for name, gradient in executor.grad_dict.items() if gradient is not None}
    statistics = {name: value.asnumpy() for name, value in executor.aux_dict.items()}
    return [output.asnumpy() for output in outputs], gradients, statistics


def module_with(symbol, values, inputs=("data",), dtype=torch.float64):
    """The graph as a module with these values."""
    module = SymbolModule(symbol.tojson(), {name: value.shape for name, value in values.items()}, inputs).to(dtype)
    module.load_state_dict({name: torch.from_numpy(value).to(dtype) for name, value in values.items()})
    return module


def in_pytorch(symbol, inputs, values, *, training, dtype=torch.float64, directions=None):
    """As `in_mxnet`, in PyTorch."""
    module = module_with(symbol, values, tuple(inputs), dtype).train(training)
    given = [torch.from_numpy(value).to(dtype).requires_grad_(training) for value in inputs.values()]
    outputs = module(*given)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    found = [output.detach().double().numpy() for output in outputs]
    if not training:
        return found, {}, {}
    heads = directions or [np.ones(output.shape) for output in outputs]
    pairs = [(o, torch.from_numpy(h).to(o.dtype)) for o, h in zip(outputs, heads) if o.requires_grad]
    torch.autograd.backward(*map(list, zip(*pairs)))
    gradients = dict(zip(inputs, (value.grad for value in given)))
    gradients.update({name: value.grad for name, value in module.named_parameters()})
    gradients = {name: value.double().numpy() for name, value in gradients.items() if value is not None}
    return found, gradients, {name: getattr(module, name).double().numpy() for name in module.statistic_names}


def relative(found, expected, least=0.0):
    """The distance of two arrays as a share of the second's length, or of `least` a number where that is larger."""
    scale = max(np.linalg.norm(expected), least * np.sqrt(expected.size), 1e-30)
    return float(np.linalg.norm(np.asarray(found, np.float64) - expected) / scale)


def unequal(found, expected, *, allowed, least=1e-6):
    """Names whose gradients differ by more than a share of their length; `least` is of the largest number of all."""
    largest = max((np.abs(value).max() for value in expected.values()), default=0)
    shares = {name: relative(found[name], value, least * largest) for name, value in expected.items() if name in found}
    return {name: share for name, share in shares.items() if not share <= allowed}


@contextlib.contextmanager
def torch_stopped_after(updates):
    """Whatever trains in here is interrupted at the update after these; that it was is checked."""
    done = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        for kind in (TorchTrainer, TorchShardedTrainer):

            def interrupted(self, batch, launch=kind.launch):
                if len(done) == updates:
                    raise KeyboardInterrupt
                done.append(1)
                return launch(self, batch)

            patch.setattr(kind, "launch", interrupted)
        yield
