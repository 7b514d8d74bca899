"""The MobileFaceNet of arcface_torch ("mbf"), a graph different from MobileFaceNet's "y1" and "y2".

It is wider at the start, where a convolution of two channels per group replaces the depth-wise one.
"""

from typing import Annotated, Any

import mxnet as mx

from vargfacenet.options import About
from vargfacenet.symbols.layers import (
    TORCH_BN_EPS,
    TORCH_SCALE,
    activation,
    batch_norm,
    convolution,
    normalised_input,
)
from vargfacenet.symbols.options import EmbeddingSize

# Units of the four stages, and the factor of the channels before the last layers.
SIZES = {"base": ((1, 4, 6, 2), 1), "large": ((2, 8, 12, 4), 2)}

Size = Annotated[str, About("`mbf` or `mbf_large` of arcface_torch.", choices=tuple(SIZES))]


def arcface_mbf(*, size: Size = "base", embedding_size: EmbeddingSize = 512) -> mx.sym.Symbol:
    """Build arcface_torch's mobilefacenet.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        For an unknown size.
    """
    units, factor = SIZES[size]
    x = normalised_input(scale=TORCH_SCALE)  # (N, 3, 112, 112)
    x = _conv_bn_act(x, 128 * factor, "conv1", kernel=3, stride=2, pad=1)  # 56
    if units[0] == 1:
        x = _conv_bn_act(x, 128, "conv2", kernel=3, pad=1, groups=64)
    else:
        x = _residuals(x, units[0], 128 * factor, 128, "stage1")
    x = bottleneck(x, 128 * factor, 128, "stage2_down", stride=2)  # 28
    x = _residuals(x, units[1], 128 * factor, 128, "stage2")
    x = bottleneck(x, 256 * factor, 256, "stage3_down", stride=2)  # 14
    x = _residuals(x, units[2], 256 * factor, 256, "stage3")
    x = bottleneck(x, 256 * factor, 512, "stage4_down", stride=2)  # 7
    x = _residuals(x, units[3], 256 * factor, 256, "stage4")
    x = _conv_bn_act(x, 512, "last_conv")
    x = _conv_bn(x, 512, "global_dw", kernel=7, groups=512)  # (N, 512, 1, 1)
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, no_bias=True, name="pre_fc1")
    return batch_norm(x, "fc1", eps=TORCH_BN_EPS)


def bottleneck(x: mx.sym.Symbol, channels: int, wide: int, name: str, *, stride: int = 1) -> mx.sym.Symbol:
    """Depth-wise bottleneck: 1x1 to `wide` channels, 3x3 depth-wise, 1x1 to `channels` without activation."""
    x = _conv_bn_act(x, wide, f"{name}_expand")
    x = _conv_bn_act(x, wide, f"{name}_dw", kernel=3, stride=stride, pad=1, groups=wide)
    return _conv_bn(x, channels, f"{name}_project")


def _residuals(x: mx.sym.Symbol, count: int, channels: int, wide: int, stage: str) -> mx.sym.Symbol:
    for unit in range(1, count + 1):
        name = f"{stage}_unit{unit}"
        x = mx.sym.elemwise_add(x, bottleneck(x, channels, wide, name), name=f"{name}_sum")
    return x


def _conv_bn(x: mx.sym.Symbol, channels: int, name: str, **shape: Any) -> mx.sym.Symbol:
    return batch_norm(convolution(x, channels, name, **shape), f"{name}_bn", eps=TORCH_BN_EPS)


def _conv_bn_act(x: mx.sym.Symbol, channels: int, name: str, **shape: Any) -> mx.sym.Symbol:
    return activation(_conv_bn(x, channels, name, **shape), "prelu", f"{name}_act")
