"""Training with this package: whole updates, on random images or on those of a training set."""

from collections.abc import Callable
from typing import Any, Optional

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import Augmentation, BatchReader, FaceIterator, RecordSet
from vargfacenet.symbols import get_symbol
from vargfacenet.train.build import make_trainer
from vargfacenet.train.config import Config

NUM_IDENTITIES = 1000


def prepare(
    *, network: str, network_options: dict[str, Any], batch_size: int, updates: int, data: Optional[str] = None
) -> Callable[[], dict[str, Any]]:
    """Prepare training; with `data`, a training set, its images are decoded meanwhile and the waiting is timed."""
    config = Config(batch_size=batch_size, lr=1e-3)
    trainer = make_trainer(config, get_symbol(network, **network_options), NUM_IDENTITIES)
    iterator = None
    if data:
        iterator = FaceIterator(BatchReader(RecordSet(data), batch_size=batch_size, augment=Augmentation()))
    batch = random_batch(batch_size)

    def turn() -> dict[str, Any]:
        waited = iterator.waited if iterator else 0.0
        for _ in range(updates):
            trainer.step(iterator.next() if iterator else batch)
        mx.nd.waitall()
        return {"items": updates * batch_size, "waited": (iterator.waited if iterator else 0.0) - waited}

    return turn


def random_batch(batch_size: int) -> mx.io.DataBatch:
    random = np.random.RandomState(0)
    return mx.io.DataBatch(
        [mx.nd.array(random.uniform(0, 255, (batch_size, *IMAGE_SHAPE)))],
        [mx.nd.array(random.randint(0, NUM_IDENTITIES, batch_size))],
    )
