"""PocketNet [Boutros et al., IEEE Access 2022, arXiv 2108.10710]: cells that an architecture search found.

Each cell reads the two cells before it. The cells here are those of the published networks.
"""

from typing import Annotated

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

SIZES = {"s": (16, 18), "m": (32, 9)}  # channels of a node in the first cells, number of cells
NODES = 4  # of a cell, whose outputs are concatenated
LAST_CHANNELS = 512

Size = Annotated[str, About("18 narrow cells, or 9 wide ones.", choices=tuple(SIZES))]


def pocketnet(*, size: Size = "s", embedding_size: EmbeddingSize = 128) -> mx.sym.Symbol:
    """Build PocketNet; embeddings of 128 and 256 numbers are published.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        For an unknown size.
    """
    channels, count = SIZES[size]
    x = normalised_input(scale=TORCH_SCALE)  # (N, 3, 112, 112)
    x = convolution(x, NODES * channels, "stem", kernel=3, stride=2, pad=1)  # 56
    x = batch_norm(x, "stem_bn", eps=TORCH_BN_EPS)
    older, newer, widths = x, x, (NODES * channels, NODES * channels)
    after_reduction = False
    for number in range(count):
        name = f"cell{number + 1}"
        reduces = number in (count // 3, 2 * count // 3, count - 1)
        channels *= 2 if reduces else 1
        prepare = reduced_preparation if after_reduction else preparation
        a = prepare(older, widths[0], channels, f"{name}_older")
        b = preparation(newer, widths[1], channels, f"{name}_newer")
        older, newer = newer, (reducing_cell if reduces else normal_cell)(a, b, channels, name)  # 56, 28, 14, 7
        widths, after_reduction = (widths[1], NODES * channels), reduces
    x = activation(newer, "prelu", "last_act1")
    x = convolution(x, LAST_CHANNELS, "last_conv")
    x = activation(batch_norm(x, "last_conv_bn", eps=TORCH_BN_EPS), "prelu", "last_act2")
    x = convolution(x, LAST_CHANNELS, "global_dw", kernel=7, groups=LAST_CHANNELS)  # (N, 512, 1, 1)
    x = batch_norm(x, "global_dw_bn", eps=TORCH_BN_EPS)
    x = mx.sym.FullyConnected(data=x, num_hidden=embedding_size, no_bias=True, name="pre_fc1")
    return batch_norm(x, "fc1", eps=TORCH_BN_EPS)


def normal_cell(a: mx.sym.Symbol, b: mx.sym.Symbol, channels: int, name: str) -> mx.sym.Symbol:
    """Four nodes of the older input `a` and the newer `b`: twice (N, channels, h, w) -> (N, 4 channels, h, w)."""

    def dw(x, kernel, part):
        return separable(x, channels, channels, f"{name}_{part}", kernel=kernel)

    node1 = _add(dw(a, 3, "node1_a"), dw(b, 1, "node1_b"), f"{name}_node1")
    node2 = _add(dw(node1, 3, "node2_node1"), dw(a, 5, "node2_a"), f"{name}_node2")
    node3 = _add(dw(node2, 3, "node3_node2"), dw(a, 3, "node3_a"), f"{name}_node3")
    node4 = _add(dw(node3, 3, "node4_node3"), a, f"{name}_node4")
    return mx.sym.concat(node1, node2, node3, node4, dim=1, name=f"{name}_concat")


def reducing_cell(a: mx.sym.Symbol, b: mx.sym.Symbol, channels: int, name: str) -> mx.sym.Symbol:
    """Like `normal_cell`, but at half the size: twice (N, channels, h, w) -> (N, 4 channels, h/2, w/2)."""

    def dw(x, kernel, part):
        return separable(x, channels, channels, f"{name}_{part}", kernel=kernel, stride=2)

    node1 = _add(dw(b, 3, "node1_b"), dw(a, 7, "node1_a"), f"{name}_node1")
    node2 = _add(node1, dw(b, 5, "node2_b"), f"{name}_node2")
    node3 = _add(_pool(a, f"{name}_node3_a"), node1, f"{name}_node3")
    node4 = _add(_pool(a, f"{name}_node4_a"), _pool(b, f"{name}_node4_b"), f"{name}_node4")
    return mx.sym.concat(node1, node2, node3, node4, dim=1, name=f"{name}_concat")


def preparation(x: mx.sym.Symbol, in_channels: int, channels: int, name: str) -> mx.sym.Symbol:
    """Bring a cell's input to its channels; the depth-wise 1x1 convolution is one factor per channel."""
    return separable(x, in_channels, channels, name, kernel=1)


def reduced_preparation(x: mx.sym.Symbol, in_channels: int, channels: int, name: str) -> mx.sym.Symbol:
    """Bring the input from before a reduction to a cell's channels and size, without dropping every second pixel.

    Half of the channels read the even rows and columns, the other half the odd ones.
    (N, in_channels, h, w) -> (N, channels, h/2, w/2).
    """
    x = activation(x, "prelu", f"{name}_act")
    shifted = mx.sym.slice_axis(x, axis=2, begin=1, end=None, name=f"{name}_shifted_down")
    shifted = mx.sym.slice_axis(shifted, axis=3, begin=1, end=None, name=f"{name}_shifted")
    halves = []
    for part, source in (("even", x), ("odd", shifted)):
        y = convolution(source, in_channels, f"{name}_{part}_dw", stride=2, groups=in_channels)
        halves.append(convolution(y, channels // 2, f"{name}_{part}_conv"))
    return batch_norm(mx.sym.concat(*halves, dim=1, name=f"{name}_concat"), f"{name}_bn", eps=TORCH_BN_EPS)


def separable(
    x: mx.sym.Symbol, in_channels: int, channels: int, name: str, *, kernel: int, stride: int = 1
) -> mx.sym.Symbol:
    """PReLU, a depth-wise convolution, a 1x1 convolution, BN: (N, in_channels, h, w) -> (N, channels, h', w')."""
    x = activation(x, "prelu", f"{name}_act")
    x = convolution(x, in_channels, f"{name}_dw", kernel=kernel, stride=stride, pad=kernel // 2, groups=in_channels)
    return batch_norm(convolution(x, channels, f"{name}_conv"), f"{name}_bn", eps=TORCH_BN_EPS)


def _pool(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    x = mx.sym.Pooling(data=x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name=f"{name}_pool")
    return batch_norm(x, f"{name}_bn", eps=TORCH_BN_EPS)


def _add(first: mx.sym.Symbol, second: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return mx.sym.elemwise_add(first, second, name=name)
