"""Training with this package's PyTorch engine: whole updates on random images, in this package's environment."""

from collections.abc import Callable, Mapping
from typing import Any, Optional

import mxnet as mx
import numpy as np
import torch

from vargfacenet import IMAGE_SHAPE
from vargfacenet.symbols import get_symbol
from vargfacenet.torch.build import make_trainer
from vargfacenet.train.build import make_optimizer
from vargfacenet.train.config import Config
from vargfacenet.train.runtime import Runtime

NUM_IDENTITIES = 1000


def prepare(
    *,
    network: str,
    network_options: Mapping[str, Any],
    batch_size: int,
    updates: int,
    device: str = "cpu:0",
    threads: Optional[int] = None,
    **settings: Any,
) -> Callable[[], dict[str, Any]]:
    """Prepare training; `settings` are those of the engine, such as ``precision`` and ``channels_last``."""
    if threads:
        torch.set_num_threads(threads)
    config = Config(batch_size=batch_size, lr=1e-3, engine="torch", **settings)
    place = torch.device(device)
    trainer = make_trainer(
        config,
        get_symbol(network, **network_options),
        NUM_IDENTITIES,
        sgd=make_optimizer(config),
        generation=1,
        first_update=0,
        runtime=Runtime([place]),
    )
    random = np.random.RandomState(0)
    images = mx.nd.array(random.randint(0, 256, (batch_size, *IMAGE_SHAPE)))
    labels = mx.nd.array(random.randint(0, NUM_IDENTITIES, batch_size))

    def turn() -> dict[str, Any]:
        for _ in range(updates):
            # A new batch each time, which is brought to the device again.
            step = trainer.launch(mx.io.DataBatch([images], [labels]))
        loss = float(step.result().outputs["loss"].mean())
        peak = torch.cuda.max_memory_allocated(place) if place.type == "cuda" else 0
        return {"items": updates * batch_size, "loss": loss, "peak_device_bytes": peak}

    return turn
