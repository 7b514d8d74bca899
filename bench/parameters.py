"""Parameters for networks whose speed alone counts."""

import mxnet as mx

from vargfacenet import IMAGE_SHAPE


def random_parameters(symbol):
    """Freshly drawn parameters and running statistics of an embedding graph: two dicts of name to NDArray."""
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, *IMAGE_SHAPE))], for_training=False)
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
    return module.get_params()
