"""VarGFaceNet [Yan et al., arXiv 1910.04985]: variable group convolution for lightweight face recognition.

Two published graphs carry the name and their checkpoints do not fit each other: the authors' release, with squeeze
and excitation and a trained scale in ``fc1`` (`vargfacenet`), and InsightFace's copy, without both
(`vargfacenet_insightface`). Node names are those graphs', letter for letter: they are the keys of checkpoints.
"""

from typing import Annotated

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import About
from vargfacenet.symbols.layers import (
    activation,
    batch_norm,
    convolution,
    normalised_input,
    squeeze_excitation,
)
from vargfacenet.symbols.options import Activation, EmbeddingSize, GroupSize, Multiplier, Units, UseSe

STAGE_CHANNELS = (32, 64, 128, 256)  # before the multiplier: head, stages 2, 3 and 4
LAST_CHANNELS = 1024  # of the embedding setting, whatever the multiplier
SE_RATIO = 4

HeadPooling = Annotated[bool, About("Whether a 3x3 max pooling takes the place of the head setting's block.")]


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
    return _build(embedding_size, multiplier, group_size, units, use_se, activation, head_pooling, fix_gamma=False)


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
    return _build(embedding_size, multiplier, group_size, units, use_se, activation, head_pooling, fix_gamma=True)


def _build(embedding_size, multiplier, group_size, units, use_se, kind, head_pooling, *, fix_gamma):
    channels = [int(width * multiplier) for width in STAGE_CHANNELS]
    _check_groups(channels, multiplier, group_size)
    if len(units) != len(channels) - 1:
        raise SettingError(
            f"units={tuple(units)}: expected {len(channels) - 1} numbers, one for each of stages 2, 3, 4"
        )
    if use_se and channels[0] < SE_RATIO:
        raise SettingError(f"multiplier={multiplier}: leaves {channels[0]} channels, too few for SE; set use_se=false")
    block = {"group_size": group_size, "kind": kind}

    x = normalised_input()  # (N, 3, 112, 112)
    x = head_setting(x, channels[0], use_se=use_se, pooling=head_pooling, **block)  # (N, c0, 56, 56)
    for stage, (count, width) in enumerate(zip(units, channels[1:]), start=2):
        before = channels[stage - 2]
        name = f"vargface_stage_{stage}_unit"
        x = downsampling_block(x, before, width, f"{name}_1", **block)  # (N, c, h/2, w/2)
        for unit in range(2, count + 1):
            x = normal_block(x, width, f"{name}_{unit}", use_se=use_se, **block)
    return embedding_setting(x, embedding_size, fix_gamma=fix_gamma, **block)  # (N, embedding_size)


def variable_group_convolution(
    x, in_channels, out_channels, name, *, group_size, kind, stride=1, factor=2, last_activation=True
):
    """Variable group convolution and the 1x1 convolution that mixes its groups [section 2.1, figure 1].

    A 3x3 convolution whose groups hold a constant `group_size` channels each widens `in_channels` by `factor`; a 1x1
    convolution brings them to `out_channels`. Each has its BN and activation, the last activation optional.
    (N, in_channels, h, w) -> (N, out_channels, h / stride, w / stride).
    """
    groups = in_channels // group_size
    wide = in_channels * factor
    x = convolution(x, wide, f"{name}_conv2d_depthwise", kernel=3, stride=stride, pad=1, groups=groups)
    x = batch_norm(x, f"{name}_conv2d_depthwise_bn")
    x = activation(x, kind, f"{name}_conv2d_depthwise_act")
    x = convolution(x, out_channels, f"{name}_conv2d_pointwise")
    x = batch_norm(x, f"{name}_conv2d_pointwise_bn")
    if last_activation:
        x = activation(x, kind, f"{name}_conv2d_pointwise_act")
    return x


def normal_block(x, channels, name, *, group_size, kind, use_se, factor=2, stride=1, shortcut_convolution=False):
    """Normal block [figure 1a, with SE]: two variable group convolutions, SE, and the input added.

    (N, channels, h, w) -> the same, divided by `stride`; a `stride` above 1 needs the `shortcut_convolution`.
    """
    varg = {"group_size": group_size, "kind": kind, "factor": factor}
    shortcut = x
    if shortcut_convolution:
        shortcut = variable_group_convolution(
            x, channels, channels, f"{name}_shortcut", stride=stride, last_activation=False, **varg
        )
    y = variable_group_convolution(x, channels, channels, f"{name}_sep1_data", stride=stride, **varg)
    y = variable_group_convolution(y, channels, channels, f"{name}_sep2_data", last_activation=False, **varg)
    if use_se:
        y = squeeze_excitation(y, channels, name, ratio=SE_RATIO, kind=kind, act_name="act1")
    return activation(y + shortcut, kind, f"{name}_out_data_act")


def downsampling_block(x, in_channels, out_channels, name, *, group_size, kind):
    """Down-sampling block [figure 1b]: two parallel stride-2 branches added, one more convolution, and a shortcut.

    (N, in_channels, h, w) -> (N, out_channels, h / 2, w / 2). No SE.
    """
    varg = {"group_size": group_size, "kind": kind, "last_activation": False}
    shortcut, first, second = (
        variable_group_convolution(x, in_channels, out_channels, f"{name}_{part}", stride=2, **varg)
        for part in ("shortcut", "sep1_data_branch", "sep2_data_branch")
    )
    y = activation(first + second, kind, f"{name}_sep1_data_act")
    y = variable_group_convolution(y, out_channels, out_channels, f"{name}_sep2_data", **varg)
    return activation(y + shortcut, kind, f"{name}_out_data_act")


def head_setting(x, channels, *, group_size, kind, use_se, pooling):
    """Head setting [section 2.2]: a 3x3 convolution at full resolution, then one block that halves it.

    The first convolution keeps stride 1, so that the small face loses nothing before the network sees it.
    (N, 3, 112, 112) -> (N, channels, 56, 56).
    """
    name = "vargface_head"
    x = convolution(x, channels, f"{name}_conv1", kernel=3, pad=1)
    x = batch_norm(x, f"{name}_conv1_bn")
    x = activation(x, kind, f"{name}_conv1_act")
    if pooling:
        return mx.sym.Pooling(
            data=x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name=f"{name}_max_pooling"
        )
    return normal_block(
        x,
        channels,
        f"{name}_head_pooling",
        group_size=group_size,
        kind=kind,
        use_se=use_se,
        factor=1,
        stride=2,
        shortcut_convolution=True,
    )


def embedding_setting(x, embedding_size, *, group_size, kind, fix_gamma):
    """Embedding setting [section 2.3]: widen, gather 7x7 by variable groups, narrow, and project.

    Widening to 1024 channels before the spatial reduction keeps what a direct one would lose.
    (N, c, 7, 7) -> ``fc1``, (N, embedding_size).
    """
    x = convolution(x, LAST_CHANNELS, "embed_convx")
    x = batch_norm(x, "embed_convx_bn")
    x = activation(x, kind, "embed_convx_act")
    x = convolution(x, LAST_CHANNELS, "embed_convx_depthwise", kernel=7, groups=LAST_CHANNELS // group_size)
    x = batch_norm(x, "embed_convx_depthwise_bn")
    x = convolution(x, LAST_CHANNELS // 2, "embed_convx_pointwise")  # (N, 512, 1, 1)
    x = batch_norm(x, "embed_convx_pointwise_bn")
    x = activation(x, kind, "embed_convx_pointwise_act")
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, name="pre_fc1")
    return batch_norm(x, "fc1", fix_gamma=fix_gamma)


def _check_groups(channels, multiplier, group_size):
    for published, width in zip((*STAGE_CHANNELS, LAST_CHANNELS), (*channels, LAST_CHANNELS)):
        if width < group_size or width % group_size:
            raise SettingError(
                f"multiplier={multiplier}, group_size={group_size}: {width} channels (from {published}) do not divide "
                f"into groups of {group_size}; choose a multiplier that makes 32 x multiplier a multiple of it"
            )
