"""Layers that several networks share, named as in the lineage."""

from __future__ import annotations

from typing import Union

import mxnet as mx

# The published graphs agree on these two values [authors' release; InsightFace].
BN_MOMENTUM = 0.9
BN_EPS = 2e-5
TORCH_BN_EPS = 1e-5  # of networks published outside MXNet
TORCH_SCALE = 1 / 127.5  # their usual scaling of the input, to exactly -1..1

Size = Union[int, tuple[int, int]]  # of height and width, or of each

ACTIVATIONS = ("prelu", "relu", "sigmoid", "softrelu", "softsign", "tanh")


def normalised_input(*, scale: float = 1 / 128) -> mx.sym.Symbol:
    """Return the image input of every graph: ``data``, RGB (N, 3, 112, 112) in 0..255, as ``(x - 127.5) * scale``."""
    data = mx.sym.identity(data=mx.sym.Variable("data"), name="id")
    return (data - 127.5) * scale


def batch_norm(x: mx.sym.Symbol, name: str, *, fix_gamma: bool = False, eps: float = BN_EPS) -> mx.sym.Symbol:
    """Batch normalisation; with ``fix_gamma`` the scale is 1, whatever the checkpoint holds."""
    return mx.sym.BatchNorm(data=x, fix_gamma=fix_gamma, eps=eps, momentum=BN_MOMENTUM, name=name)


def activation(x: mx.sym.Symbol, kind: str, name: str) -> mx.sym.Symbol:
    """PReLU with a slope per channel (``name_gamma``), or one of MXNet's parameter-free activations."""
    if kind == "prelu":
        return mx.sym.LeakyReLU(data=x, act_type="prelu", name=name)
    return mx.sym.Activation(data=x, act_type=kind, name=name)


def convolution(
    x: mx.sym.Symbol,
    channels: int,
    name: str,
    *,
    kernel: Size = 1,
    stride: int = 1,
    pad: Size = 0,
    groups: int = 1,
    bias: bool = False,
) -> mx.sym.Symbol:
    """Convolution: (N, c, h, w) -> (N, channels, h', w'). `kernel` and `pad` are one number, or those of h and w."""
    return mx.sym.Convolution(
        data=x,
        num_filter=channels,
        kernel=_pair(kernel),
        stride=(stride, stride),
        pad=_pair(pad),
        num_group=groups,
        no_bias=not bias,
        name=name,
    )


def channel_shuffle(x: mx.sym.Symbol, name: str, *, groups: int) -> mx.sym.Symbol:
    """Interleave the channels of `groups` equal parts [Zhang et al., arXiv 1707.01083, section 3.1].

    The first channel of each part comes first, then the second of each, and so on. (N, c, h, w) -> (N, c, h, w).
    """
    x = mx.sym.reshape(x, shape=(0, -4, groups, -1, -2), name=f"{name}_split")  # (N, groups, c / groups, h, w)
    x = mx.sym.swapaxes(x, dim1=1, dim2=2, name=f"{name}_swap")
    return mx.sym.reshape(x, shape=(0, -3, -2), name=f"{name}_join")


def squeeze_excitation(
    x: mx.sym.Symbol, channels: int, name: str, *, ratio: int, kind: str, act_name: str
) -> mx.sym.Symbol:
    """Squeeze and excitation [Hu et al., arXiv 1709.01507]: channels weighted by a function of their global averages.

    Two biased 1x1 convolutions on the global average, with an activation between them and a sigmoid after them; the output
    is ``x`` (N, channels, h, w) times one weight in 0..1 per channel.
    """
    weights = mx.sym.Pooling(data=x, global_pool=True, kernel=(7, 7), pool_type="avg", name=f"{name}_se_pool1")
    weights = convolution(weights, channels // ratio, f"{name}_se_conv1", bias=True)
    weights = activation(weights, kind, f"{name}_se_{act_name}")
    weights = convolution(weights, channels, f"{name}_se_conv2", bias=True)
    weights = mx.sym.Activation(data=weights, act_type="sigmoid", name=f"{name}_se_sigmoid")
    return mx.sym.broadcast_mul(x, weights)


def _pair(size: Size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
