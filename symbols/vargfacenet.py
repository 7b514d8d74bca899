"""VarGFaceNet [Yan et al., arXiv 1910.04985]: variable group convolution for lightweight face recognition.

Two published graphs have this name, and their checkpoints are not interchangeable: the authors' release, with squeeze and
excitation and a trained scale in ``fc1`` (`vargfacenet`), and InsightFace's copy, without both (`vargfacenet_insightface`).
Node names are those of the published graphs, letter for letter, as they are the keys of checkpoints.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import About, check_count
from vargfacenet.symbols.layers import (
    activation,
    batch_norm,
    convolution,
    normalised_input,
    squeeze_excitation,
)
from vargfacenet.symbols.options import Activation, EmbeddingSize, GroupSize, Multiplier, Units, UseSe

STAGE_CHANNELS = (32, 64, 128, 256)  # before the multiplier: head, stages 2, 3 and 4
LAST_CHANNELS = 1024  # of the embedding setting, independent of the multiplier
SE_RATIO = 4

HeadPooling = Annotated[bool, About("Begin with 3x3 max pooling instead of the block of the head setting.")]


class Layers(NamedTuple):
    """Choices that all layers of one network share."""

    group_size: int
    kind: str  # of activation
    use_se: bool


def vargfacenet(
    *,
    embedding_size: EmbeddingSize = 512,
    multiplier: Multiplier = 1.25,
    group_size: GroupSize = 8,
    units: Units = (3, 7, 4),
    use_se: UseSe = True,
    activation: Activation = "prelu",
    head_pooling: HeadPooling = False,
) -> mx.sym.Symbol:
    """VarGFaceNet as its authors released it.

    The channels are (32, 64, 128, 256), each multiplied and cut to an integer; the last of them must be multiples of
    `group_size`, whose number is constant while the number of groups varies [section 2.1]. `units` are those of stages
    2, 3 and 4.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        Where the channels do not divide into groups, or an option is out of range.
    """
    layers = Layers(group_size, activation, use_se)
    return _build(embedding_size, multiplier, units, layers, head_pooling, fix_gamma=False)


def vargfacenet_insightface(
    *,
    embedding_size: EmbeddingSize = 512,
    multiplier: Multiplier = 1.25,
    group_size: GroupSize = 8,
    units: Units = (3, 7, 4),
    use_se: UseSe = False,
    activation: Activation = "prelu",
    head_pooling: HeadPooling = False,
) -> mx.sym.Symbol:
    """VarGFaceNet as InsightFace builds it: no squeeze and excitation, the scale of ``fc1`` fixed at 1.

    Options, output and errors are those of `vargfacenet`.
    """
    layers = Layers(group_size, activation, use_se)
    return _build(embedding_size, multiplier, units, layers, head_pooling, fix_gamma=True)


def _build(
    embedding_size: int,
    multiplier: float,
    units: Sequence[int],
    layers: Layers,
    head_pooling: bool,
    *,
    fix_gamma: bool,
) -> mx.sym.Symbol:
    channels = [int(width * multiplier) for width in STAGE_CHANNELS]
    _check_groups(channels, multiplier, layers.group_size)
    check_count("units", units, len(channels) - 1, "of stages 2, 3, 4")
    if layers.use_se and channels[0] < SE_RATIO:
        raise SettingError(f"multiplier={multiplier}: leaves {channels[0]} channels, too few for SE; set use_se=false")

    x = normalised_input()  # (N, 3, 112, 112)
    x = head_setting(x, channels[0], layers=layers, pooling=head_pooling)  # (N, c0, 56, 56)
    for stage, (count, width) in enumerate(zip(units, channels[1:]), start=2):
        before = channels[stage - 2]
        name = f"vargface_stage_{stage}_unit"
        x = downsampling_block(x, before, width, f"{name}_1", layers=layers)  # (N, c, h/2, w/2)
        for unit in range(2, count + 1):
            x = normal_block(x, width, f"{name}_{unit}", layers=layers)
    return embedding_setting(x, embedding_size, layers=layers, fix_gamma=fix_gamma)  # (N, embedding_size)


def variable_group_convolution(
    x: mx.sym.Symbol,
    in_channels: int,
    out_channels: int,
    name: str,
    *,
    layers: Layers,
    stride: int = 1,
    factor: int = 2,
) -> mx.sym.Symbol:
    """Variable group convolution and the 1x1 convolution that mixes its groups [section 2.1, figure 1].

    A 3x3 convolution whose groups hold a constant number of channels each widens `in_channels` by `factor`, followed by BN
    and activation; a 1x1 convolution brings them to `out_channels`, followed by BN.
    (N, in_channels, h, w) -> (N, out_channels, h / stride, w / stride).
    """
    groups = in_channels // layers.group_size
    wide = in_channels * factor
    x = convolution(x, wide, f"{name}_conv2d_depthwise", kernel=3, stride=stride, pad=1, groups=groups)
    x = batch_norm(x, f"{name}_conv2d_depthwise_bn")
    x = activation(x, layers.kind, f"{name}_conv2d_depthwise_act")
    x = convolution(x, out_channels, f"{name}_conv2d_pointwise")
    return batch_norm(x, f"{name}_conv2d_pointwise_bn")


def normal_block(
    x: mx.sym.Symbol,
    channels: int,
    name: str,
    *,
    layers: Layers,
    factor: int = 2,
    stride: int = 1,
    shortcut_convolution: bool = False,
) -> mx.sym.Symbol:
    """Normal block [figure 1a, with SE]: two variable group convolutions, SE, and the input added.

    (N, channels, h, w) -> the same, divided by `stride`; a `stride` above 1 needs the `shortcut_convolution`.
    """

    def convolved(x: mx.sym.Symbol, part: str, stride: int) -> mx.sym.Symbol:
        part = f"{name}_{part}"
        return variable_group_convolution(x, channels, channels, part, layers=layers, stride=stride, factor=factor)

    shortcut = convolved(x, "shortcut", stride) if shortcut_convolution else x
    y = convolved(x, "sep1_data", stride)
    y = activation(y, layers.kind, f"{name}_sep1_data_conv2d_pointwise_act")
    y = convolved(y, "sep2_data", 1)
    if layers.use_se:
        y = squeeze_excitation(y, channels, name, ratio=SE_RATIO, kind=layers.kind, act_name="act1")
    return activation(y + shortcut, layers.kind, f"{name}_out_data_act")


def downsampling_block(
    x: mx.sym.Symbol, in_channels: int, out_channels: int, name: str, *, layers: Layers
) -> mx.sym.Symbol:
    """Down-sampling block [figure 1b]: two parallel stride-2 branches added, one more convolution, and a shortcut.

    (N, in_channels, h, w) -> (N, out_channels, h / 2, w / 2). No SE.
    """
    shortcut, first, second = (
        variable_group_convolution(x, in_channels, out_channels, f"{name}_{part}", layers=layers, stride=2)
        for part in ("shortcut", "sep1_data_branch", "sep2_data_branch")
    )
    y = activation(first + second, layers.kind, f"{name}_sep1_data_act")
    y = variable_group_convolution(y, out_channels, out_channels, f"{name}_sep2_data", layers=layers)
    return activation(y + shortcut, layers.kind, f"{name}_out_data_act")


def head_setting(x: mx.sym.Symbol, channels: int, *, layers: Layers, pooling: bool) -> mx.sym.Symbol:
    """Head setting [section 2.2]: a 3x3 convolution at full resolution, then one block that halves it.

    The first convolution keeps stride 1, so that the network sees a small face at full resolution.
    (N, 3, 112, 112) -> (N, channels, 56, 56).
    """
    name = "vargface_head"
    x = convolution(x, channels, f"{name}_conv1", kernel=3, pad=1)
    x = batch_norm(x, f"{name}_conv1_bn")
    x = activation(x, layers.kind, f"{name}_conv1_act")
    if pooling:
        return mx.sym.Pooling(
            data=x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name=f"{name}_max_pooling"
        )
    name = f"{name}_head_pooling"
    return normal_block(x, channels, name, layers=layers, factor=1, stride=2, shortcut_convolution=True)


def embedding_setting(x: mx.sym.Symbol, embedding_size: int, *, layers: Layers, fix_gamma: bool) -> mx.sym.Symbol:
    """Embedding setting [section 2.3]: widen, reduce 7x7 by variable groups, narrow, and project.

    Widening to 1024 channels before the spatial reduction preserves information that a direct reduction would lose.
    (N, c, 7, 7) -> ``fc1``, (N, embedding_size).
    """
    groups = LAST_CHANNELS // layers.group_size
    x = convolution(x, LAST_CHANNELS, "embed_convx")
    x = batch_norm(x, "embed_convx_bn")
    x = activation(x, layers.kind, "embed_convx_act")
    x = convolution(x, LAST_CHANNELS, "embed_convx_depthwise", kernel=7, groups=groups)
    x = batch_norm(x, "embed_convx_depthwise_bn")
    x = convolution(x, LAST_CHANNELS // 2, "embed_convx_pointwise")  # (N, 512, 1, 1)
    x = batch_norm(x, "embed_convx_pointwise_bn")
    x = activation(x, layers.kind, "embed_convx_pointwise_act")
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, name="pre_fc1")
    return batch_norm(x, "fc1", fix_gamma=fix_gamma)


def _check_groups(channels: Sequence[int], multiplier: float, group_size: int) -> None:
    for published, width in zip((*STAGE_CHANNELS, LAST_CHANNELS), (*channels, LAST_CHANNELS)):
        if width < group_size or width % group_size:
            raise SettingError(
                f"multiplier={multiplier}, group_size={group_size}: {width} channels (from {published}) do not divide "
                f"into groups of {group_size}; choose a multiplier that makes 32 x multiplier a multiple of it"
            )
