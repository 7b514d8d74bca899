"""Random parameters, for networks of which only the speed matters."""

import mxnet as mx

from vargfacenet import IMAGE_SHAPE


def random_parameters(symbol: mx.sym.Symbol) -> tuple[dict[str, mx.nd.NDArray], dict[str, mx.nd.NDArray]]:
    """Return random parameters and running statistics of an embedding graph, by name."""
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, *IMAGE_SHAPE))], for_training=False)
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
    return module.get_params()
