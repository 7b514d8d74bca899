"""Small networks with random weights, and their embeddings computed by stock MXNet."""

import mxnet as mx
import numpy as np

from vargfacenet.formats.checkpoint import save_checkpoint
from vargfacenet.symbols import get_symbol

SMALL = {"multiplier": 0.25, "units": (1, 2, 1), "embedding_size": 16}


def save_random_checkpoint(prefix, network, seed=0, **options):
    """Save a checkpoint of random weights, with running statistics that differ from those of any batch; return its prefix."""
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


def by_stock_calls(prefix, epoch, images):
    """Embed images as the lineage's own scripts do, with MXNet alone."""
    symbol, args, auxs = mx.model.load_checkpoint(str(prefix), epoch)
    symbol = symbol.get_internals()["fc1_output"]
    module = mx.mod.Module(symbol, context=mx.cpu(), label_names=None)
    module.bind(data_shapes=[("data", images.shape)], for_training=False)
    module.set_params(args, auxs)
    module.forward(mx.io.DataBatch([mx.nd.array(images)]), is_train=False)
    return module.get_outputs()[0].asnumpy()
