"""GhostFaceNet [Alansari et al., IEEE Access 2023]: half of each layer's channels from a cheap depth-wise convolution.

Version 1 is built on GhostNet, version 2 on GhostNetV2 with its attention maps. Published names are
``V<version>-<width>-<stride>``.
"""

from typing import Annotated, NamedTuple

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.options import About
from vargfacenet.symbols.layers import TORCH_BN_EPS, activation, batch_norm, convolution, normalised_input
from vargfacenet.symbols.options import EmbeddingSize

STEM_CHANNELS = 16


class Block(NamedTuple):
    """Settings of a ghost bottleneck; channels before the width in `BLOCKS`, and after it in the network."""

    kernel: int
    expansion: int
    channels: int
    use_se: bool
    stride: int


BLOCKS = (
    Block(3, 16, 16, False, 1),
    Block(3, 48, 24, False, 2),
    Block(3, 72, 24, False, 1),
    Block(5, 72, 40, True, 2),
    Block(5, 120, 40, True, 1),
    Block(3, 240, 80, False, 2),
    Block(3, 200, 80, False, 1),
    Block(3, 184, 80, False, 1),
    Block(3, 184, 80, False, 1),
    Block(3, 480, 112, True, 1),
    Block(3, 672, 112, True, 1),
    Block(5, 672, 160, True, 2),
    Block(5, 960, 160, False, 1),
    Block(5, 960, 160, True, 1),
    Block(5, 960, 160, False, 1),
)
LAST_CHANNELS = {1: 512, 2: 960}  # expansion of a last block, and channels before the global convolution
PLAIN_BLOCKS = 2  # first blocks of version 2, which have no attention map


class Layers(NamedTuple):
    """Choices that all layers of one network share."""

    version: int
    eps: float


Version = Annotated[int, About("Version of GhostFaceNet.", choices=(1, 2))]
Width = Annotated[
    float, About("Factor of the channels, rounded to multiples of 4; 1 and 1.3 are published.", low=0.25, high=16)
]
Stride = Annotated[int, About("Stride of the first convolution.", choices=(1, 2))]
BnEps = Annotated[
    float,
    About("Epsilon of BN: the authors' 1e-5; deepface runs the released V1-1.3-1 with 1e-3.", low=1e-8, high=0.1),
]


def ghostfacenet(
    *,
    version: Version = 1,
    width: Width = 1.3,
    stride: Stride = 1,
    bn_eps: BnEps = TORCH_BN_EPS,
    embedding_size: EmbeddingSize = 512,
) -> mx.sym.Symbol:
    """Build GhostFaceNet.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        Where an option is out of range.
    """
    layers = Layers(version, bn_eps)

    size, channels = IMAGE_SHAPE[1], round_channels(STEM_CHANNELS * width)
    x = normalised_input()  # (N, 3, 112, 112)
    x, pad = _padded(x, "stem", layers, size, kernel=3, stride=stride)
    x = convolution(x, channels, "stem", kernel=3, stride=stride, pad=pad)
    x, size = _norm_act(x, "stem", layers), size // stride
    last = LAST_CHANNELS[version]
    for number, published in enumerate((*BLOCKS, Block(5, last, 160, True, 1))):
        block = published._replace(
            expansion=round_channels(published.expansion * width), channels=round_channels(published.channels * width)
        )
        use_attention = version == 2 and number >= PLAIN_BLOCKS
        name = f"block{number + 1}"
        x = bottleneck(x, channels, block, name, layers=layers, size=size, use_attention=use_attention)
        channels, size = block.channels, -(-size // block.stride)
    last = round_channels(last * width)
    x = _norm_act(convolution(x, last, "last_conv"), "last_conv", layers)
    x = _norm(convolution(x, last, "global_dw", kernel=size, groups=last), "global_dw", layers)  # (N, c, 1, 1)
    has_bias = version == 1 and stride == 1  # as published
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, no_bias=not has_bias, name="pre_fc1")
    return batch_norm(x, "fc1", eps=bn_eps)


def round_channels(channels: float) -> int:
    """Return the multiple of 4 nearest to a number of channels, at least 4 and not below nine tenths of it."""
    rounded = max(4, int(channels + 2) // 4 * 4)
    return rounded if rounded >= 0.9 * channels else rounded + 4


def bottleneck(
    x: mx.sym.Symbol,
    in_channels: int,
    block: Block,
    name: str,
    *,
    layers: Layers,
    size: int,
    use_attention: bool,
) -> mx.sym.Symbol:
    """Ghost bottleneck: a ghost module that expands, one that projects, and a shortcut.

    (N, in_channels, size, size) -> (N, block.channels, size / stride, size / stride).
    """
    changes = block.stride != 1 or in_channels != block.channels
    if changes and layers.version == 2:
        # Version 2 creates the layers of the shortcut first, as in the order of its published weights.
        shortcut = _shortcut(x, in_channels, block, name, layers, size)
    wide = block.expansion
    y = ghost_module(x, wide, f"{name}_ghost1", layers=layers, has_activation=True)
    if use_attention:
        y = mx.sym.broadcast_mul(y, attention_map(x, wide, f"{name}_map", layers=layers, size=size), name=f"{name}_mul")
    if block.stride == 2:
        y = _depthwise(y, wide, block, f"{name}_dw", layers, size)
        y = _norm(y, f"{name}_dw", layers)
    if block.use_se:
        y = _squeeze_excitation(y, wide, f"{name}_se", layers)
    y = ghost_module(y, block.channels, f"{name}_ghost2", layers=layers, has_activation=False)
    if changes and layers.version == 1:
        shortcut = _shortcut(x, in_channels, block, name, layers, size)
    return mx.sym.elemwise_add(shortcut if changes else x, y, name=f"{name}_sum")


def ghost_module(x: mx.sym.Symbol, channels: int, name: str, *, layers: Layers, has_activation: bool) -> mx.sym.Symbol:
    """Half of the channels from a 1x1 convolution, the other half from a depth-wise 3x3 convolution of the first half."""
    norm = _norm_act if has_activation else _norm
    half = channels // 2
    first = norm(convolution(x, half, f"{name}_conv"), f"{name}_conv", layers)
    cheap = norm(convolution(first, half, f"{name}_dw", kernel=3, pad=1, groups=half), f"{name}_dw", layers)
    return mx.sym.concat(first, cheap, dim=1, name=f"{name}_concat")


def attention_map(x: mx.sym.Symbol, channels: int, name: str, *, layers: Layers, size: int) -> mx.sym.Symbol:
    """Decoupled fully connected attention [Tang et al., arXiv 2211.12905]: rows, then columns, at half the size.

    (N, c, size, size) -> (N, channels, size, size), in 0..1.
    """
    y = mx.sym.Pooling(data=x, kernel=(2, 2), stride=(2, 2), pool_type="avg", name=f"{name}_pool")
    y = _norm(convolution(y, channels, f"{name}_conv"), f"{name}_conv", layers)
    y = _norm(
        convolution(y, channels, f"{name}_row", kernel=(1, 5), pad=(0, 2), groups=channels), f"{name}_row", layers
    )
    y = convolution(y, channels, f"{name}_column", kernel=(5, 1), pad=(2, 0), groups=channels)
    y = mx.sym.Activation(data=_norm(y, f"{name}_column", layers), act_type="sigmoid", name=f"{name}_sigmoid")
    return mx.sym.contrib.BilinearResize2D(y, height=size, width=size, align_corners=False, name=f"{name}_resize")


def _shortcut(x: mx.sym.Symbol, in_channels: int, block: Block, name: str, layers: Layers, size: int) -> mx.sym.Symbol:
    dw, conv = f"{name}_shortcut_dw", f"{name}_shortcut_conv"
    y = _depthwise(x, in_channels, block, dw, layers, size)
    return _norm(convolution(_norm(y, dw, layers), block.channels, conv), conv, layers)


def _squeeze_excitation(x: mx.sym.Symbol, channels: int, name: str, layers: Layers) -> mx.sym.Symbol:
    y = mx.sym.Pooling(data=x, global_pool=True, kernel=(7, 7), pool_type="avg", name=f"{name}_pool")
    y = activation(convolution(y, round_channels(channels / 4), f"{name}_conv1", bias=True), "prelu", f"{name}_act")
    y = convolution(y, channels, f"{name}_conv2", bias=True)
    # Slope of Keras 2 in version 1, of PyTorch in version 2
    slope = 0.2 if layers.version == 1 else 1 / 6
    y = mx.sym.hard_sigmoid(y, alpha=slope, beta=0.5, name=f"{name}_sigmoid")
    return mx.sym.broadcast_mul(x, y, name=f"{name}_scale")


def _depthwise(x: mx.sym.Symbol, channels: int, block: Block, name: str, layers: Layers, size: int) -> mx.sym.Symbol:
    x, pad = _padded(x, name, layers, size, kernel=block.kernel, stride=block.stride)
    return convolution(x, channels, name, kernel=block.kernel, stride=block.stride, pad=pad, groups=channels)


def _padded(
    x: mx.sym.Symbol, name: str, layers: Layers, size: int, *, kernel: int, stride: int
) -> tuple[mx.sym.Symbol, int]:
    """Return the input of a convolution and the padding that is left to the convolution."""
    if layers.version == 1 and stride == 2 and size % 2 == 0:
        # TensorFlow's SAME: the greater part of the padding comes at the end.
        before = (kernel - 2) // 2
        width = (0, 0, 0, 0, before, kernel - 2 - before, before, kernel - 2 - before)
        return mx.sym.pad(x, mode="constant", pad_width=width, constant_value=0, name=f"{name}_pad"), 0
    return x, kernel // 2


def _norm(x: mx.sym.Symbol, name: str, layers: Layers) -> mx.sym.Symbol:
    return batch_norm(x, f"{name}_bn", eps=layers.eps)


def _norm_act(x: mx.sym.Symbol, name: str, layers: Layers) -> mx.sym.Symbol:
    return activation(_norm(x, name, layers), "prelu", f"{name}_act")
