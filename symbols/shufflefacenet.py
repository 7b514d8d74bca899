"""ShuffleFaceNet [Martinez-Diaz et al., ICCV workshops 2019]: ShuffleNet V2 with PReLU and a global convolution.

The authors' code is not public. A public port has one PReLU slope per layer, an activation after the global convolution
and a bias before the last BN. The paper specifies none of these; this builder follows the port.
"""

from typing import Annotated, Any

import mxnet as mx

from vargfacenet.options import About
from vargfacenet.symbols.layers import TORCH_BN_EPS, batch_norm, channel_shuffle, convolution, normalised_input
from vargfacenet.symbols.options import EmbeddingSize

STEM_CHANNELS = 24
STAGE_CHANNELS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704), 2.0: (244, 488, 976)}
UNITS = (4, 8, 4)
LAST_CHANNELS = 1024
START_SLOPE = 0.25

Width = Annotated[float, About("The paper's row of channels.", choices=tuple(STAGE_CHANNELS))]


def shufflefacenet(*, width: Width = 1.5, embedding_size: EmbeddingSize = 128) -> mx.sym.Symbol:
    """Build ShuffleFaceNet.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        For a width that the paper does not have.
    """
    x = normalised_input()  # (N, 3, 112, 112)
    x = _conv_bn_act(x, STEM_CHANNELS, "stem", kernel=3, stride=2, pad=1)  # 56
    before = STEM_CHANNELS
    for stage, (count, channels) in enumerate(zip(UNITS, STAGE_CHANNELS[width]), start=2):
        x = downsampling_unit(x, before, channels, f"stage{stage}_unit1")  # 28, 14, 7
        for unit in range(2, count + 1):
            x = basic_unit(x, channels, f"stage{stage}_unit{unit}")
        before = channels
    x = _conv_bn_act(x, LAST_CHANNELS, "last_conv")
    x = _conv_bn_act(x, LAST_CHANNELS, "global_dw", kernel=7, groups=LAST_CHANNELS)  # (N, 1024, 1, 1)
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, name="pre_fc1")
    return batch_norm(x, "fc1", eps=TORCH_BN_EPS)


def downsampling_unit(x: mx.sym.Symbol, in_channels: int, channels: int, name: str) -> mx.sym.Symbol:
    """Two branches of stride 2, concatenated and shuffled: (N, in_channels, h, w) -> (N, channels, h/2, w/2)."""
    y = _conv_bn(x, in_channels, f"{name}_shortcut_dw", kernel=3, stride=2, pad=1, groups=in_channels)
    y = _conv_bn_act(y, channels // 2, f"{name}_shortcut_conv")
    return _join(y, _branch(x, channels // 2, name, stride=2), name)


def basic_unit(x: mx.sym.Symbol, channels: int, name: str) -> mx.sym.Symbol:
    """Pass the second half of the channels through a branch, and shuffle both: (N, channels, h, w) -> the same."""
    half = channels // 2
    y = mx.sym.slice_axis(x, axis=1, begin=0, end=half, name=f"{name}_first")
    x = mx.sym.slice_axis(x, axis=1, begin=half, end=channels, name=f"{name}_second")
    return _join(y, _branch(x, half, name), name)


def _branch(x: mx.sym.Symbol, channels: int, name: str, *, stride: int = 1) -> mx.sym.Symbol:
    x = _conv_bn_act(x, channels, f"{name}_conv1")
    x = _conv_bn(x, channels, f"{name}_dw", kernel=3, stride=stride, pad=1, groups=channels)
    return _conv_bn_act(x, channels, f"{name}_conv2")


def _join(first: mx.sym.Symbol, second: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return channel_shuffle(mx.sym.concat(first, second, dim=1, name=f"{name}_concat"), f"{name}_shuffle", groups=2)


def _conv_bn(x: mx.sym.Symbol, channels: int, name: str, **shape: Any) -> mx.sym.Symbol:
    return batch_norm(convolution(x, channels, name, **shape), f"{name}_bn", eps=TORCH_BN_EPS)


def _conv_bn_act(x: mx.sym.Symbol, channels: int, name: str, **shape: Any) -> mx.sym.Symbol:
    x = _conv_bn(x, channels, name, **shape)
    slope = mx.sym.var(f"{name}_act_gamma", shape=(1,), init=mx.init.Constant(START_SLOPE))  # of all channels
    return mx.sym.LeakyReLU(data=x, gamma=slope, act_type="prelu", name=f"{name}_act")
