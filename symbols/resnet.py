"""LResNet-IR: the improved residual networks used as teachers [Deng et al., arXiv 1801.07698, section 3.2.2].

Units of BN-conv-BN-PReLU-conv-BN at 112x112 with a stride-1 first convolution, and output "E": BN, dropout, fully
connected, BN. Node names are InsightFace's.

The ``resnet`` builders are InsightFace's MXNet graphs. The ``iresnet`` ones are arcface_torch's: the same layers with
another epsilon and another scaling of the input, and without dropout.
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import check_count
from vargfacenet.symbols.layers import (
    BN_EPS,
    TORCH_BN_EPS,
    TORCH_SCALE,
    activation,
    batch_norm,
    convolution,
    normalised_input,
    squeeze_excitation,
)
from vargfacenet.symbols.options import Activation, Dropout, EmbeddingSize, Multiplier, Units, UseSe

STAGE_CHANNELS = (64, 128, 256, 512)  # before the multiplier
SE_RATIO = 16
DROPOUT = 0.4


class Layers(NamedTuple):
    """Choices that all layers of one network share."""

    use_se: bool
    kind: str  # of activation
    eps: float = BN_EPS


def resnet18(
    *,
    embedding_size: EmbeddingSize = 512,
    multiplier: Multiplier = 1.0,
    units: Units = (2, 2, 2, 2),
    use_se: UseSe = False,
    activation: Activation = "prelu",
) -> mx.sym.Symbol:
    """LResNet18E-IR; options, output and errors are those of `resnet100`."""
    return _build(embedding_size, multiplier, units, Layers(use_se, activation))


def resnet34(
    *,
    embedding_size: EmbeddingSize = 512,
    multiplier: Multiplier = 1.0,
    units: Units = (3, 4, 6, 3),
    use_se: UseSe = False,
    activation: Activation = "prelu",
) -> mx.sym.Symbol:
    """LResNet34E-IR; options, output and errors are those of `resnet100`."""
    return _build(embedding_size, multiplier, units, Layers(use_se, activation))


def resnet50(
    *,
    embedding_size: EmbeddingSize = 512,
    multiplier: Multiplier = 1.0,
    units: Units = (3, 4, 14, 3),
    use_se: UseSe = False,
    activation: Activation = "prelu",
) -> mx.sym.Symbol:
    """LResNet50E-IR; options, output and errors are those of `resnet100`."""
    return _build(embedding_size, multiplier, units, Layers(use_se, activation))


def resnet100(
    *,
    embedding_size: EmbeddingSize = 512,
    multiplier: Multiplier = 1.0,
    units: Units = (3, 13, 30, 3),
    use_se: UseSe = False,
    activation: Activation = "prelu",
) -> mx.sym.Symbol:
    """LResNet100E-IR, the teacher of about 24 GFLOPs.

    The channels are (64, 128, 256, 512), each multiplied and cut to an integer: narrow teachers for small machines. With
    squeeze and excitation it is the lineage's "SE-LResNet".

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        Where an option is out of range.
    """
    return _build(embedding_size, multiplier, units, Layers(use_se, activation))


def iresnet18(*, embedding_size: EmbeddingSize = 512, dropout: Dropout = 0.0) -> mx.sym.Symbol:
    """arcface_torch's iresnet18; options, output and errors are those of `iresnet100`."""
    return _build_torch(embedding_size, (2, 2, 2, 2), dropout)


def iresnet34(*, embedding_size: EmbeddingSize = 512, dropout: Dropout = 0.0) -> mx.sym.Symbol:
    """arcface_torch's iresnet34; options, output and errors are those of `iresnet100`."""
    return _build_torch(embedding_size, (3, 4, 6, 3), dropout)


def iresnet50(*, embedding_size: EmbeddingSize = 512, dropout: Dropout = 0.0) -> mx.sym.Symbol:
    """arcface_torch's iresnet50; options, output and errors are those of `iresnet100`."""
    return _build_torch(embedding_size, (3, 4, 14, 3), dropout)


def iresnet100(*, embedding_size: EmbeddingSize = 512, dropout: Dropout = 0.0) -> mx.sym.Symbol:
    """arcface_torch's iresnet100.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        Where an option is out of range.
    """
    return _build_torch(embedding_size, (3, 13, 30, 3), dropout)


def _build_torch(embedding_size: int, units: Sequence[int], dropout: float) -> mx.sym.Symbol:
    layers = Layers(use_se=False, kind="prelu", eps=TORCH_BN_EPS)
    return _build(embedding_size, 1.0, units, layers, scale=TORCH_SCALE, dropout=dropout)


def _build(
    embedding_size: int,
    multiplier: float,
    units: Sequence[int],
    layers: Layers,
    *,
    scale: float = 1 / 128,
    dropout: Optional[float] = None,
) -> mx.sym.Symbol:
    check_count("units", units, len(STAGE_CHANNELS), "stage")
    channels = [int(width * multiplier) for width in STAGE_CHANNELS]
    if channels[0] < (SE_RATIO if layers.use_se else 1):
        raise SettingError(f"multiplier={multiplier}: leaves {channels[0]} channels, too few; choose a larger one")

    x = normalised_input(scale=scale)  # (N, 3, 112, 112)
    x = convolution(x, channels[0], "conv0", kernel=3, pad=1)
    x = batch_norm(x, "bn0", eps=layers.eps)
    x = activation(x, layers.kind, "relu0")
    for stage, (count, width) in enumerate(zip(units, channels), start=1):
        for unit in range(1, count + 1):
            x = residual_unit(
                x, width, f"stage{stage}_unit{unit}", downsample=unit == 1, layers=layers
            )  # 56, 28, 14, 7
    x = batch_norm(x, "bn1", eps=layers.eps)
    x = mx.sym.Dropout(data=x, p=DROPOUT if dropout is None else dropout, name="dropout0")
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, name="pre_fc1")
    return batch_norm(x, "fc1", fix_gamma=True, eps=layers.eps)


def residual_unit(x: mx.sym.Symbol, channels: int, name: str, *, downsample: bool, layers: Layers) -> mx.sym.Symbol:
    """Improved residual unit: (N, c, h, w) -> (N, channels, h, w), or half the size where it down-samples."""
    stride = 2 if downsample else 1
    y = batch_norm(x, f"{name}_bn1", eps=layers.eps)
    y = convolution(y, channels, f"{name}_conv1", kernel=3, pad=1)
    y = batch_norm(y, f"{name}_bn2", eps=layers.eps)
    y = activation(y, layers.kind, f"{name}_relu1")
    y = convolution(y, channels, f"{name}_conv2", kernel=3, stride=stride, pad=1)
    y = batch_norm(y, f"{name}_bn3", eps=layers.eps)
    if layers.use_se:
        y = squeeze_excitation(y, channels, name, ratio=SE_RATIO, kind=layers.kind, act_name="relu1")
    shortcut = x
    if downsample:
        shortcut = convolution(x, channels, f"{name}_conv1sc", stride=stride)
        shortcut = batch_norm(shortcut, f"{name}_sc", eps=layers.eps)
    return y + shortcut
