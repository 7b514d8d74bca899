"""MobileFaceNet [Chen et al., arXiv 1804.07573] as InsightFace publishes it: "y1" and the deeper "y2".

Node names are InsightFace's. All BN layers but the last keep MXNet's default epsilon (1e-3), as published.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mxnet as mx

from vargfacenet.symbols.layers import activation, batch_norm, convolution, normalised_input
from vargfacenet.symbols.options import EmbeddingSize

MXNET_BN_EPS = 1e-3


def mobilefacenet(*, embedding_size: EmbeddingSize = 128) -> mx.sym.Symbol:
    """MobileFaceNet with a global depth-wise convolution before the embedding.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.
    """
    return _build(
        embedding_size, lambda x: _conv_bn_act(x, 64, "conv_2_dw", kernel=3, pad=1, groups=64), units=(4, 6, 2)
    )


def mobilefacenet_y2(*, embedding_size: EmbeddingSize = 256) -> mx.sym.Symbol:
    """MobileFaceNet with more residual units, two of them in the place of the first depth-wise convolution.

    Option and output are those of `mobilefacenet`.
    """
    return _build(embedding_size, lambda x: _residuals(x, 2, 64, 64, "res_2"), units=(8, 16, 4))


def _build(
    embedding_size: int, stage2: Callable[[mx.sym.Symbol], mx.sym.Symbol], *, units: Sequence[int]
) -> mx.sym.Symbol:
    x = normalised_input()  # (N, 3, 112, 112)
    x = _conv_bn_act(x, 64, "conv_1", kernel=3, stride=2, pad=1)  # 56
    x = stage2(x)
    x = bottleneck(x, 64, 128, "dconv_23", stride=2)  # 28
    x = _residuals(x, units[0], 64, 128, "res_3")
    x = bottleneck(x, 128, 256, "dconv_34", stride=2)  # 14
    x = _residuals(x, units[1], 128, 256, "res_4")
    x = bottleneck(x, 128, 512, "dconv_45", stride=2)  # 7
    x = _residuals(x, units[2], 128, 256, "res_5")
    x = _conv_bn_act(x, 512, "conv_6sep")
    x = _conv_bn(x, 512, "conv_6dw7_7", kernel=7, groups=512)  # (N, 512, 1, 1)
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, name="pre_fc1")
    return batch_norm(x, "fc1", fix_gamma=True)


def bottleneck(x: mx.sym.Symbol, channels: int, wide: int, name: str, *, stride: int = 1) -> mx.sym.Symbol:
    """Depth-wise bottleneck: 1x1 to `wide` channels, 3x3 depth-wise, 1x1 to `channels` without activation."""
    x = _conv_bn_act(x, wide, f"{name}_conv_sep")
    x = _conv_bn_act(x, wide, f"{name}_conv_dw", kernel=3, stride=stride, pad=1, groups=wide)
    return _conv_bn(x, channels, f"{name}_conv_proj")


def _residuals(x: mx.sym.Symbol, count: int, channels: int, wide: int, name: str) -> mx.sym.Symbol:
    for block in range(count):
        x = bottleneck(x, channels, wide, f"{name}_block{block}") + x
    return x


def _conv_bn(x: mx.sym.Symbol, channels: int, name: str, **shape: Any) -> mx.sym.Symbol:
    return batch_norm(convolution(x, channels, f"{name}_conv2d", **shape), f"{name}_batchnorm", eps=MXNET_BN_EPS)


def _conv_bn_act(x: mx.sym.Symbol, channels: int, name: str, **shape: Any) -> mx.sym.Symbol:
    return activation(_conv_bn(x, channels, name, **shape), "prelu", f"{name}_relu")
