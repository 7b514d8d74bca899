"""EdgeFace [George et al., arXiv 2307.01838]: EdgeNeXt with linear layers of low rank.

Convolutions encode the pixels of each stage; the last block of stages 2, 3 and 4 attends across channels (cross-covariance
attention), so that its cost grows with the number of pixels and not with its square. LayerNorm replaces BN.
"""

import math
import typing
from typing import Annotated

import mxnet as mx

from vargfacenet.options import About
from vargfacenet.symbols.layers import TORCH_SCALE, convolution, normalised_input
from vargfacenet.symbols.options import EmbeddingSize

# Channels and blocks of the four stages, heads of the attention, ratio of the rank (0 for full linear layers).
SIZES = {
    "xxs": ((24, 48, 88, 168), (2, 2, 6, 2), 4, 0),
    "xs": ((32, 64, 100, 192), (3, 3, 9, 3), 4, 0.6),
    "s": ((48, 96, 160, 304), (3, 3, 9, 3), 8, 0.5),
    "base": ((80, 160, 288, 584), (3, 3, 9, 3), 8, 0),
}
STAGE_SIZES = (28, 14, 7, 3)  # height and width; down-sampling 7 to 3 drops the last row and column
LAYER_NORM_EPS = 1e-6
EXPANSION = 4
POSITION_SIZE = 32  # numbers that encode a row, and the same for a column
START_SCALE = 1e-6
LEAST_NORM = 1e-12

Size = Annotated[str, About("Size of the network.", choices=tuple(SIZES))]
RankRatio = Annotated[
    typing.Optional[float],
    About(
        "Rank of the linear layers over their smaller side; 0 keeps them whole; none: 0.6 for xs, 0.5 for s, else 0.",
        low=0,
        high=1,
    ),
]


def edgeface(*, size: Size = "s", rank_ratio: RankRatio = None, embedding_size: EmbeddingSize = 512) -> mx.sym.Symbol:
    """Build EdgeFace.

    Returns
    -------
    mx.sym.Symbol
        ``fc1``: embeddings, (N, embedding_size), not normalised, of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        For an unknown size, or a ratio out of range.
    """
    channels, depths, heads, ratio = SIZES[size]
    ratio = ratio if rank_ratio is None else rank_ratio

    x = normalised_input(scale=TORCH_SCALE)  # (N, 3, 112, 112)
    x = convolution(x, channels[0], "stem_conv", kernel=4, stride=4, bias=True)
    x = _norm_of_image(x, "stem_norm")  # 28
    for stage, (width, count) in enumerate(zip(channels, depths), start=1):
        if stage > 1:
            x = _norm_of_image(x, f"stage{stage}_down_norm")
            x = convolution(x, width, f"stage{stage}_down_conv", kernel=2, stride=2, bias=True)  # 14, 7, 3
        for number in range(1, count + 1):
            name = f"stage{stage}_block{number}"
            if stage > 1 and number == count:
                x = split_block(x, width, name, stage=stage, heads=heads, ratio=ratio)
            else:
                x = convolution_block(x, width, name, kernel=2 * stage + 1, ratio=ratio)
    x = mx.sym.Flatten(mx.sym.mean(x, axis=(2, 3), keepdims=True, name="head_pool"), name="head_flat")
    x = layer_norm(x, "head_norm")
    return linear(x, channels[-1], embedding_size, "fc1", ratio=ratio)


def convolution_block(x: mx.sym.Symbol, channels: int, name: str, *, kernel: int, ratio: float) -> mx.sym.Symbol:
    """Convolution encoder: depth-wise convolution, LayerNorm, two linear layers, added to the input."""
    scale = _layer_scale(f"{name}_scale", channels)
    y = convolution(x, channels, f"{name}_dw", kernel=kernel, pad=kernel // 2, groups=channels, bias=True)
    y = _perceptron(_channels_last(y, f"{name}_last"), channels, name, scale, ratio)
    return mx.sym.elemwise_add(x, _channels_first(y, f"{name}_first"), name=f"{name}_sum")


def split_block(x: mx.sym.Symbol, channels: int, name: str, *, stage: int, heads: int, ratio: float) -> mx.sym.Symbol:
    """Split depth-wise transpose attention encoder: a cascade of convolutions, attention, two linear layers.

    The channels are split into as many parts as the number of the stage. Each part but the last is convolved after the
    previous result has been added. (N, channels, h, w) -> the same.
    """
    size = STAGE_SIZES[stage - 1]
    attention_scale = _layer_scale(f"{name}_xca_scale", channels)
    scale = _layer_scale(f"{name}_scale", channels)
    y = _cascade(x, channels, stage, name)
    if stage == 2:
        y = mx.sym.broadcast_add(y, position(channels, size, f"{name}_position"), name=f"{name}_positioned")
    y = _channels_last(y, f"{name}_last")
    y = mx.sym.reshape(y, shape=(0, -3, 0), name=f"{name}_tokens")  # (N, h * w, channels)
    attended = layer_norm(y, f"{name}_xca_norm")
    attended = cross_covariance_attention(attended, channels, f"{name}_xca", heads=heads, ratio=ratio)
    attended = mx.sym.broadcast_mul(attended, attention_scale, name=f"{name}_xca_scaled")
    y = mx.sym.elemwise_add(y, attended, name=f"{name}_xca_sum")
    y = _perceptron(y, channels, name, scale, ratio)
    y = mx.sym.swapaxes(y, dim1=1, dim2=2, name=f"{name}_first")
    y = mx.sym.reshape(y, shape=(0, 0, size, size), name=f"{name}_image")
    return mx.sym.elemwise_add(x, y, name=f"{name}_sum")


def cross_covariance_attention(
    x: mx.sym.Symbol, channels: int, name: str, *, heads: int, ratio: float
) -> mx.sym.Symbol:
    """Attention of channels to channels [El-Nouby et al., arXiv 2106.09681]: (N, tokens, channels) -> the same."""
    start = mx.init.Constant(1.0)
    temperature = mx.sym.var(f"{name}_temperature", shape=(heads, 1, 1), init=start)
    temperature = mx.sym.reshape(temperature, shape=(1, heads, 1, 1), name=f"{name}_factor")
    x = linear(x, channels, 3 * channels, f"{name}_qkv", ratio=ratio)
    x = mx.sym.swapaxes(x, dim1=1, dim2=2, name=f"{name}_channels")  # (N, 3 * channels, tokens)
    query, key, value = (
        mx.sym.slice_axis(x, axis=1, begin=part * channels, end=(part + 1) * channels, name=f"{name}_{kind}")
        for part, kind in enumerate(("query", "key", "value"))
    )
    query, key = (_normalised(part, f"{name}_{kind}") for part, kind in ((query, "query"), (key, "key")))
    # One matrix for each head of each image: (N * heads, channels / heads, tokens)
    query, key, value = (
        mx.sym.reshape(part, shape=(-1, channels // heads, 0), name=f"{name}_{kind}_heads")
        for part, kind in ((query, "query"), (key, "key"), (value, "value"))
    )
    scores = mx.sym.batch_dot(query, key, transpose_b=True, name=f"{name}_products")
    scores = mx.sym.reshape(scores, shape=(-4, -1, heads, 0, 0), name=f"{name}_scores")
    scores = mx.sym.broadcast_mul(scores, temperature, name=f"{name}_scores_scaled")
    weights = mx.sym.softmax(scores, axis=-1, name=f"{name}_weights")
    weights = mx.sym.reshape(weights, shape=(-3, 0, 0), name=f"{name}_weights_heads")
    y = mx.sym.batch_dot(weights, value, name=f"{name}_attended")
    y = mx.sym.reshape(y, shape=(-1, channels, 0), name=f"{name}_joined")
    y = mx.sym.swapaxes(y, dim1=1, dim2=2, name=f"{name}_tokens")
    return linear(y, channels, channels, f"{name}_proj", ratio=ratio)


def position(channels: int, size: int, name: str) -> mx.sym.Symbol:
    """Fourier encoding of the rows and columns, through a 1x1 convolution: (1, channels, size, size).

    Row i of `size`, from 1, is ``2 pi i / (size + 1e-6)``; its sines and cosines of 16 frequencies alternate.
    """
    places = mx.sym.arange(1, size + 1, step=1, name=f"{name}_places") * (2 * math.pi / (size + 1e-6))
    pairs = mx.sym.arange(0, POSITION_SIZE // 2, step=1, repeat=2, name=f"{name}_pairs")  # 0, 0, 1, 1, ..
    frequencies = mx.sym.exp(pairs * (-2 * math.log(10000) / POSITION_SIZE), name=f"{name}_frequencies")
    # cos(x) = sin(x + pi / 2)
    phases = (mx.sym.arange(0, POSITION_SIZE, step=1, name=f"{name}_order") - 2 * pairs) * (math.pi / 2)
    angles = mx.sym.broadcast_mul(
        mx.sym.reshape(frequencies, shape=(-1, 1)), mx.sym.reshape(places, shape=(1, -1)), name=f"{name}_turns"
    )
    angles = mx.sym.broadcast_add(angles, mx.sym.reshape(phases, shape=(-1, 1)), name=f"{name}_angles")
    waves = mx.sym.sin(angles, name=f"{name}_waves")  # (32, size)
    whole = (1, POSITION_SIZE, size, size)
    along_rows, along_columns = (1, POSITION_SIZE, size, 1), (1, POSITION_SIZE, 1, size)
    rows = mx.sym.broadcast_to(mx.sym.reshape(waves, shape=along_rows), shape=whole, name=f"{name}_rows")
    columns = mx.sym.broadcast_to(mx.sym.reshape(waves, shape=along_columns), shape=whole, name=f"{name}_columns")
    encoded = mx.sym.concat(rows, columns, dim=1, name=f"{name}_concat")
    return convolution(encoded, channels, f"{name}_conv", bias=True)


def linear(x: mx.sym.Symbol, in_channels: int, channels: int, name: str, *, ratio: float) -> mx.sym.Symbol:
    """Linear layer on the last axis, or the product of two smaller ones where `ratio` is not 0."""
    if ratio:
        rank = max(2, int(min(in_channels, channels) * ratio))
        low = f"{name}_low" if name != "fc1" else "pre_fc1"
        x = mx.sym.FullyConnected(data=x, num_hidden=rank, no_bias=True, flatten=False, name=low)
    return mx.sym.FullyConnected(data=x, num_hidden=channels, flatten=False, name=name)


def layer_norm(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    """LayerNorm over the last axis, which MXNet computes many times faster than over another."""
    return mx.sym.LayerNorm(data=x, axis=-1, eps=LAYER_NORM_EPS, name=name)


def _cascade(x: mx.sym.Symbol, channels: int, parts: int, name: str) -> mx.sym.Symbol:
    width = math.ceil(channels / parts)
    results, before = [], None
    for number in range(parts):
        end = min((number + 1) * width, channels)
        part = mx.sym.slice_axis(x, axis=1, begin=number * width, end=end, name=f"{name}_part{number + 1}")
        if number < parts - 1:
            if before is not None:
                part = mx.sym.elemwise_add(part, before, name=f"{name}_part{number + 1}_sum")
            part = convolution(part, width, f"{name}_dw{number + 1}", kernel=3, pad=1, groups=width, bias=True)
            before = part
        results.append(part)
    return mx.sym.concat(*results, dim=1, name=f"{name}_concat")


def _perceptron(x: mx.sym.Symbol, channels: int, name: str, scale: mx.sym.Symbol, ratio: float) -> mx.sym.Symbol:
    x = layer_norm(x, f"{name}_norm")
    x = linear(x, channels, EXPANSION * channels, f"{name}_linear1", ratio=ratio)
    x = mx.sym.LeakyReLU(data=x, act_type="gelu", name=f"{name}_act")
    x = linear(x, EXPANSION * channels, channels, f"{name}_linear2", ratio=ratio)
    return mx.sym.broadcast_mul(x, scale, name=f"{name}_scaled")


def _normalised(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    """Scale each channel of `x`, (N, channels, tokens), to length 1 over the tokens."""
    length = mx.sym.norm(x, ord=2, axis=2, keepdims=True, name=f"{name}_norm")
    return mx.sym.broadcast_div(x, mx.sym.maximum(length, LEAST_NORM), name=f"{name}_normalised")


def _layer_scale(name: str, channels: int) -> mx.sym.Symbol:
    """One factor per channel, on the last axis, that starts near 0, so that a block starts near the identity."""
    factors = mx.sym.var(f"{name}_gamma", shape=(channels,), init=mx.init.Constant(START_SCALE))
    return mx.sym.reshape(factors, shape=(1, 1, -1), name=name)


def _norm_of_image(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    x = layer_norm(_channels_last(x, f"{name}_last"), name)
    return _channels_first(x, f"{name}_first")


def _channels_last(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return mx.sym.transpose(x, axes=(0, 2, 3, 1), name=name)


def _channels_first(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return mx.sym.transpose(x, axes=(0, 3, 1, 2), name=name)
