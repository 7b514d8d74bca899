"""A small plain network."""

from collections.abc import Sequence
from typing import Annotated

import mxnet as mx

from vargfacenet.options import About
from vargfacenet.symbols import register_network


@register_network
def plainnet(
    *,
    embedding_size: int = 32,
    widths: Annotated[Sequence[int], About("Channels of each layer, which halves the image.", low=1, high=512)] = (
        8,
        16,
    ),
    scale: Annotated[float, About("Factor of the input.", low=1e-4, high=1)] = 1 / 128,
) -> mx.sym.Symbol:
    """Convolutions with stride 2, global pooling, and a linear layer."""
    x = (mx.sym.var("data") - 127.5) * scale  # (N, 3, 112, 112)
    for number, width in enumerate(widths, 1):
        x = mx.sym.Convolution(x, num_filter=width, kernel=(3, 3), stride=(2, 2), pad=(1, 1), name=f"plain{number}")
        x = mx.sym.BatchNorm(x, fix_gamma=False, name=f"plain{number}_bn")
        x = mx.sym.LeakyReLU(x, act_type="prelu", name=f"plain{number}_act")
    x = mx.sym.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1))
    return mx.sym.FullyConnected(x, num_hidden=embedding_size, name="fc1")  # (N, embedding_size)
