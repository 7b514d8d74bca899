"""Training with this package's PyTorch engine: whole updates on random images, in this package's environment."""

import mxnet as mx
import numpy as np
import torch

from vargfacenet import IMAGE_SHAPE
from vargfacenet.symbols import get_symbol
from vargfacenet.torch.engine import make_trainer
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.config import Config

NUM_IDENTITIES = 1000


def prepare(*, network, network_options, batch_size, updates, device="cpu:0", threads=None, **settings):
    """`settings` are those of the engine, such as ``precision`` and ``channels_last``."""
    if threads:
        torch.set_num_threads(threads)
    config = Config(batch_size=batch_size, lr=1e-3, engine="torch", **settings)
    place = torch.device(device)
    trainer = make_trainer(config, get_symbol(network, **network_options), NUM_IDENTITIES, 1, [place], 0, ALONE)
    random = np.random.RandomState(0)
    images = mx.nd.array(random.randint(0, 256, (batch_size, *IMAGE_SHAPE)))
    labels = mx.nd.array(random.randint(0, NUM_IDENTITIES, batch_size))

    def turn():
        for _ in range(updates):
            means = trainer.step(
                mx.io.DataBatch([images], [labels])
            )  # a new one, brought to the device again each time
        loss = float(means["loss"].asnumpy()[0])  # which waits
        peak = torch.cuda.max_memory_allocated(place) if place.type == "cuda" else 0
        return {"items": updates * batch_size, "loss": loss, "peak_device_bytes": peak}

    return turn
