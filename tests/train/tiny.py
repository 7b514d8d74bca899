"""Tiny teachers and students for the tests of training and of its commands."""

import contextlib

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.formats.checkpoint import save_checkpoint
from vargfacenet.symbols import get_symbol
from vargfacenet.train.config import resolve
from vargfacenet.train.states import States
from vargfacenet.train.trainer import Trainer

TINY = {
    "multiplier": 0.25,
    "units": (1, 1, 1),
    "use_se": False,
    "embedding_size": 16,
    "batch_size": 8,
    "max_updates": 6,
    "warmup_updates": 1,
    "lr": 0.05,
    "verify_every": 3,
    "save_every": 3,
    "log_every": 2,
    "color_jitter": 0.1,
}


def tiny(recipe="demo_student_scratch", **settings):
    """A recipe with a network and a run of the smallest size."""
    return resolve(recipe, {**TINY, **settings})


def parameters(out, name="latest"):
    """The arrays of a checkpoint's file: dict of name to array."""
    saved = mx.nd.load(str(out / f"{name}-0000.params"))
    return {key: value.asnumpy() for key, value in saved.items()}


def newest_state(out):
    """The arrays of a run's newest state: dict of name to NDArray."""
    states = States(out)
    return states.arrays(states.newest()["update"])


@contextlib.contextmanager
def stopped_after(updates):
    """Whatever trains in here is interrupted at the update after these; that it was is checked."""
    step, done = Trainer.step, []

    def interrupted(self, batch):
        if len(done) == updates:
            raise KeyboardInterrupt
        done.append(1)
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", interrupted)
        yield


def save_random_checkpoint(prefix, network, seed=0, **options):
    """A checkpoint of random weights whose running statistics are not those of any batch."""
    symbol = get_symbol(network, **options)
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, 112, 112))
    random = np.random.RandomState(seed)
    args, auxs = {}, {}
    for name, shape in zip(symbol.list_arguments(), arg_shapes):
        if name.endswith("weight"):
            args[name] = mx.nd.array(random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape))
        elif name != "data":
            args[name] = mx.nd.array(random.uniform(0.3, 0.9, shape))
    for name, shape in zip(symbol.list_auxiliary_states(), aux_shapes):
        auxs[name] = mx.nd.array(random.uniform(0.5, 1.5, shape))
    save_checkpoint(prefix, 0, symbol, args, auxs)
    return prefix
