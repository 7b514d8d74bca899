"""Tiny teachers and students for the tests of training and of its commands."""

import contextlib

import mxnet as mx
import pytest

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
