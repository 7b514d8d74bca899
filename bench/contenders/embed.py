"""Embeddings of a batch, by this package or by MXNet's Module alone on the published graph."""

from collections.abc import Callable
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.bench.parameters import random_parameters
from vargfacenet.eval.embed import Embedder
from vargfacenet.symbols import get_symbol


def prepare(
    *,
    network: str,
    network_options: dict[str, Any],
    batch_size: int,
    batches: int,
    module: bool = False,
    padding: int = 0,
) -> Callable[[], dict[str, Any]]:
    """Prepare MXNet's Module on the published graph with `module`, otherwise this package on its chosen backend.

    `padding` is the number of images in a batch that do not count as work.
    """
    symbol = get_symbol(network, **network_options)
    args, auxs = random_parameters(symbol)
    images = np.random.RandomState(0).uniform(0, 255, (batch_size, *IMAGE_SHAPE)).astype(np.float32)
    if module:
        bound = mx.mod.Module(symbol, label_names=None, context=mx.cpu())
        bound.bind([("data", images.shape)], for_training=False)
        bound.set_params(args, auxs)

    def embed_by_module(images):
        bound.forward(mx.io.DataBatch([mx.nd.array(images)]), is_train=False)
        return bound.get_outputs()[0].asnumpy()

    embed = embed_by_module if module else Embedder(symbol, args, auxs, batch_size=batch_size).embed_batch

    def turn() -> dict[str, Any]:
        for _ in range(batches):
            embeddings = embed(images)
        return {"items": batches * (batch_size - padding), "norm": float(np.linalg.norm(embeddings[0]))}

    return turn
