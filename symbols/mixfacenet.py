"""MixFaceNet [Boutros et al., arXiv 2107.13046]: depth-wise convolutions of several kernel sizes in one layer.

With ``shuffle`` it is ShuffleMixFaceNet. The authors' repository does not state the settings of the sizes; the settings
here give the published numbers of parameters.
"""

import dataclasses
import typing
from typing import Annotated

import mxnet as mx

from vargfacenet.options import About
from vargfacenet.symbols.layers import (
    TORCH_BN_EPS,
    TORCH_SCALE,
    activation,
    batch_norm,
    channel_shuffle,
    convolution,
    normalised_input,
)
from vargfacenet.symbols.options import EmbeddingSize


@dataclasses.dataclass(frozen=True)
class Stage:
    """Settings of a stage's units, one number per unit, and the divisor of its squeeze and excitation (0 for none)."""

    channels: tuple[int, ...]
    expansion: tuple[int, ...]
    expansion_groups: tuple[int, ...]
    kernels: tuple[int, ...]  # number of sizes, of 3, 5, 7 ..
    projection_groups: tuple[int, ...]
    se_divisor: int
    strided: typing.Optional[int] = 0  # the unit with stride 2


_S = (
    Stage((24, 24), (6, 3), (2, 2), (1, 1), (2, 2), 0, None),
    Stage((40,) * 4, (6,) * 4, (1, 2, 2, 2), (3, 2, 2, 2), (1, 2, 2, 2), 2),
    Stage((80,) * 3, (6,) * 3, (1, 1, 1), (3, 2, 2), (2, 2, 2), 4),
    Stage(
        (120,) * 3 + (200,) * 3,
        (6, 3, 3, 6, 6, 6),
        (2, 2, 2, 1, 1, 1),
        (3, 4, 4, 5, 4, 4),
        (2, 2, 2, 1, 2, 2),
        2,
        strided=3,
    ),
)
_M = (
    Stage((32, 32), (6, 3), (2, 2), (3, 1), (2, 2), 0, None),
    Stage((40,) * 4, (6,) * 4, (1, 2, 2, 2), (4, 2, 2, 2), (1, 2, 2, 2), 2),
    Stage((80,) * 4, (6,) * 4, (1, 2, 2, 2), (3, 4, 4, 4), (1, 2, 2, 2), 4),
    Stage(
        (120,) * 4 + (200,) * 4,
        (6, 3, 3, 3, 6, 6, 6, 6),
        (1, 2, 2, 2, 1, 1, 1, 1),
        (1,) + (4,) * 7,
        (1, 2, 2, 2, 1, 2, 2, 2),
        2,
        strided=4,
    ),
)
# Channels of the stem, stages, width, and channels before the global convolution.
SIZES = {"xs": (16, _S, 0.5, 512), "s": (16, _S, 1.0, 1024), "m": (24, _M, 1.0, 1024)}

Size = Annotated[str, About("Size of the network.", choices=tuple(SIZES))]
Shuffle = Annotated[bool, About("Shuffle the channels after every unit: ShuffleMixFaceNet.")]
Width = Annotated[
    typing.Optional[float],
    About("Factor of the channels, rounded to multiples of 8; none: 0.5 for xs, else 1.", low=0.125, high=16),
]
LastChannels = Annotated[
    typing.Optional[int],
    About("Channels before the global convolution; none: 512 for xs, else 1024.", low=1, high=65_536),
]


def mixfacenet(
    *,
    size: Size = "s",
    shuffle: Shuffle = False,
    width: Width = None,
    last_channels: LastChannels = None,
    embedding_size: EmbeddingSize = 512,
) -> mx.sym.Symbol:
    """Build MixFaceNet or ShuffleMixFaceNet.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        For an unknown size, or an option out of range.
    """
    stem_channels, stages, default_width, default_last = SIZES[size]
    width = default_width if width is None else width
    last_channels = default_last if last_channels is None else last_channels

    channels = round_channels(stem_channels * width)
    x = normalised_input(scale=TORCH_SCALE)  # (N, 3, 112, 112)
    x = _norm_act(convolution(x, channels, "stem_conv", kernel=3, stride=2, pad=1), "prelu", "stem_conv")  # 56
    y = _norm_act(convolution(x, channels, "stem_dw", kernel=3, pad=1, groups=channels), "prelu", "stem_dw")
    y = _norm(convolution(y, channels, "stem_project"), "stem_project")
    x = mx.sym.elemwise_add(x, y, name="stem_sum")
    x = _shuffle(x, channels, "stem")  # in both variants
    for number, stage in enumerate(stages, start=1):
        for index, wide in enumerate(stage.channels):
            name, out = f"stage{number}_unit{index + 1}", round_channels(wide * width)
            x = unit(x, channels, out, name, stage=stage, index=index, kind="prelu" if number == 1 else "swish")
            if shuffle:
                x = _shuffle(x, out, name)
            channels = out  # at 56, 28, 14, 14 then 7
    x = _norm_act(convolution(x, last_channels, "last_conv"), "prelu", "last_conv")
    x = _norm(convolution(x, last_channels, "global_dw", kernel=7, groups=last_channels), "global_dw")
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, no_bias=True, name="pre_fc1")
    return batch_norm(x, "fc1", fix_gamma=True, eps=TORCH_BN_EPS)


def round_channels(channels: float) -> int:
    """Return the multiple of 8 nearest to a number of channels, at least 8 and not below nine tenths of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def unit(
    x: mx.sym.Symbol, in_channels: int, channels: int, name: str, *, stage: Stage, index: int, kind: str
) -> mx.sym.Symbol:
    """Expand, convolve with mixed kernels, weigh the channels, project, and add the input where it fits.

    (N, in_channels, h, w) -> (N, channels, h', w'), of half the size in the stage's strided unit.
    """
    wide = in_channels * stage.expansion[index]
    stride = 2 if index == stage.strided else 1
    y = grouped_convolution(x, in_channels, wide, f"{name}_expand", groups=stage.expansion_groups[index])
    y = _norm_act(y, kind, f"{name}_expand")
    y = mixed_convolution(y, wide, f"{name}_dw", kernels=stage.kernels[index], stride=stride)
    y = _norm_act(y, kind, f"{name}_dw")
    if stage.se_divisor:
        y = _squeeze_excitation(y, wide, in_channels // stage.se_divisor, f"{name}_se")
    y = grouped_convolution(y, wide, channels, f"{name}_project", groups=stage.projection_groups[index])
    y = _norm(y, f"{name}_project")
    if stride == 1 and in_channels == channels:
        y = mx.sym.elemwise_add(x, y, name=f"{name}_sum")
    return y


def grouped_convolution(x: mx.sym.Symbol, in_channels: int, channels: int, name: str, *, groups: int) -> mx.sym.Symbol:
    """1x1 convolutions, each from a part of the channels to a part; the first parts take the remainders."""
    if groups == 1:
        return convolution(x, channels, name)
    parts = _split(x, in_channels, groups, name)
    widths = part_sizes(channels, groups)
    parts = [convolution(part, out, f"{name}{n}") for n, (part, out) in enumerate(zip(parts, widths), start=1)]
    return mx.sym.concat(*parts, dim=1, name=f"{name}_concat")


def mixed_convolution(x: mx.sym.Symbol, channels: int, name: str, *, kernels: int, stride: int) -> mx.sym.Symbol:
    """Depth-wise convolutions with kernels 3, 5, 7 .., each on a part of the channels [Tan and Le, arXiv 1907.09595]."""
    if kernels == 1:
        return convolution(x, channels, name, kernel=3, stride=stride, pad=1, groups=channels)
    convolved = []
    for number, (part, width) in enumerate(zip(_split(x, channels, kernels, name), part_sizes(channels, kernels))):
        kernel = 3 + 2 * number
        name_of_part = f"{name}{kernel}x{kernel}"
        part = convolution(part, width, name_of_part, kernel=kernel, stride=stride, pad=kernel // 2, groups=width)
        convolved.append(part)
    return mx.sym.concat(*convolved, dim=1, name=f"{name}_concat")


def part_sizes(channels: int, parts: int) -> list[int]:
    """Return the channels of equal parts, of which the first takes the remainder."""
    size = channels // parts
    return [channels - size * (parts - 1)] + [size] * (parts - 1)


def _split(x: mx.sym.Symbol, channels: int, parts: int, name: str) -> list[mx.sym.Symbol]:
    sizes, begin, found = part_sizes(channels, parts), 0, []
    for number, size in enumerate(sizes, start=1):
        found.append(mx.sym.slice_axis(x, axis=1, begin=begin, end=begin + size, name=f"{name}_part{number}"))
        begin += size
    return found


def _squeeze_excitation(x: mx.sym.Symbol, channels: int, middle: int, name: str) -> mx.sym.Symbol:
    y = mx.sym.Pooling(data=x, global_pool=True, kernel=(7, 7), pool_type="avg", name=f"{name}_pool")
    y = _activation(convolution(y, middle, f"{name}_conv1", bias=True), "swish", f"{name}_act")
    y = convolution(y, channels, f"{name}_conv2", bias=True)
    y = mx.sym.Activation(data=y, act_type="sigmoid", name=f"{name}_sigmoid")
    return mx.sym.broadcast_mul(x, y, name=f"{name}_scale")


def _shuffle(x: mx.sym.Symbol, channels: int, name: str) -> mx.sym.Symbol:
    # The even-numbered channels first, then the odd ones
    return channel_shuffle(x, f"{name}_shuffle", groups=channels // 2)


def _activation(x: mx.sym.Symbol, kind: str, name: str) -> mx.sym.Symbol:
    if kind == "prelu":
        return activation(x, kind, name)
    y = mx.sym.Activation(data=x, act_type="sigmoid", name=f"{name}_sigmoid")
    return mx.sym.elemwise_mul(x, y, name=name)


def _norm(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return batch_norm(x, f"{name}_bn", eps=TORCH_BN_EPS)


def _norm_act(x: mx.sym.Symbol, kind: str, name: str) -> mx.sym.Symbol:
    return _activation(_norm(x, name), kind, f"{name}_act")
