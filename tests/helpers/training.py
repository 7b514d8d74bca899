"""Tiny teachers and students for the tests of training and of its commands."""

import contextlib

import mxnet as mx
import pytest

from vargfacenet.train.classifier import ShardedTrainer
from vargfacenet.train.config import resolve
from vargfacenet.train.trainer import Trainer
from vargfacenet.train.training_state import TrainingStates

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
    return TrainingStates(out).newest().load_arrays()


@contextlib.contextmanager
def stopped_after(updates):
    """Whatever trains in here is interrupted at the update after these; that it was is checked."""
    done = []

    def interrupt():
        if len(done) == updates:
            raise KeyboardInterrupt
        done.append(1)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        before_each_step(patch, lambda trainer, batch: interrupt())
        yield


def before_each_step(patch, action):
    """Calls ``action(trainer, batch)`` before every update of every trainer."""
    for kind in (Trainer, ShardedTrainer):

        def step(self, batch, step=kind.step):
            action(self, batch)
            return step(self, batch)

        patch.setattr(kind, "step", step)


def of_teacher(**settings):
    """Return settings of a student that learns from the teacher by what `settings` add alone."""
    return tiny("demo_student", **{"generations": 1, "loss": "none", "distillation": "none", **settings})
