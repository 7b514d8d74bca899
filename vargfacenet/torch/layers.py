"""Layers: convolutions, products, normalisation, activations and pooling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vargfacenet.torch import grouped
from vargfacenet.torch.attributes import Attributes
from vargfacenet.torch.prelu import prelu
from vargfacenet.torch.registry import Operator, operator

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@operator("Convolution")
def convolution(attributes: Attributes) -> Operator:
    """Return a convolution of 1, 2 or 3 dimensions, channels first."""
    attributes.choice("layout", (None, "NCW", "NCHW", "NCDHW"), None)
    attributes.flag("no_bias", False)  # which the number of inputs says too
    kernel = attributes.numbers("kernel")
    if len(kernel) not in _CONVOLUTIONS:
        attributes.refuse(f"has kernel={kernel}; known are those of 1 to 3 numbers")
    convolve, ones = _CONVOLUTIONS[len(kernel)], (1,) * len(kernel)
    stride = attributes.numbers("stride", ones) or ones
    dilation = attributes.numbers("dilate", ones) or ones
    padding = attributes.numbers("pad", (0,) * len(kernel)) or (0,) * len(kernel)
    groups = int(attributes.value("num_group", 1))

    def run(training: bool, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if grouped.pays(data, weight, groups):
            whole = grouped.with_zeros(weight.to(grouped.computed_in(data)), groups)
            return convolve(data, whole, bias, stride, padding, dilation)
        return convolve(data, weight, bias, stride, padding, dilation, groups)

    return run


@operator("FullyConnected")
def fully_connected(attributes: Attributes) -> Operator:
    """Return a product with a weight (num_hidden, columns); ``flatten`` joins all axes but the first."""
    flatten = attributes.flag("flatten", True)
    attributes.flag("no_bias", False)

    def run(training: bool, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(data.flatten(1) if flatten else data, weight, bias)

    return run


@operator("BatchNorm")
def batch_norm(attributes: Attributes) -> Operator:
    """Return batch normalisation whose running variance follows the biased variance of the batch, as MXNet's does."""
    eps, momentum = float(attributes.value("eps", 1e-3)), float(attributes.value("momentum", 0.9))
    fix_gamma, use_global = attributes.flag("fix_gamma", True), attributes.flag("use_global_stats", False)
    attributes.choice("axis", (1,), 1)
    attributes.choice("output_mean_var", (False, "false"), False)

    def run(training: bool, data: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        scale = None if fix_gamma else gamma
        if not training or use_global:
            return functional.batch_norm(data, mean, variance, scale, beta, False, 0.0, eps)
        count = data.numel() // data.shape[1]
        if count == 1:
            return _norm_of_one(data, beta, mean, variance, momentum)
        # PyTorch moves the running variance towards count / (count - 1) times the biased one. That factor is put in before
        # and taken out after: r' = m r + (1 - m) v, with one pass over the data.
        excess = count / (count - 1)
        unbiased = variance * excess
        output = functional.batch_norm(data, mean, unbiased, scale, beta, True, 1 - momentum, eps)
        torch.div(unbiased, excess, out=variance)
        return output

    return run


def _norm_of_one(data: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, momentum: float) -> Tensor:
    """Normalise a single number a channel, which PyTorch refuses: it is its own mean, and what is left is the shift."""
    with torch.no_grad():
        mean.mul_(momentum).add_(data.flatten().to(mean.dtype), alpha=1 - momentum)
        variance.mul_(momentum)
    return data * 0 + beta.reshape(1, -1, *[1] * (data.ndim - 2)).to(data.dtype)


@operator("InstanceNorm")
def instance_norm(attributes: Attributes) -> Operator:
    """Return normalisation of each channel of each sample."""
    eps = float(attributes.value("eps", 1e-3))
    return lambda training, data, gamma, beta: functional.instance_norm(data, weight=gamma, bias=beta, eps=eps)


@operator("LayerNorm")
def layer_norm(attributes: Attributes) -> Operator:
    """Return normalisation over one axis."""
    axis, eps = int(attributes.value("axis", -1)), float(attributes.value("eps", 1e-5))
    attributes.choice("output_mean_var", (False, "false"), False)

    def run(training: bool, data: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        moved = data if axis in (-1, data.ndim - 1) else data.movedim(axis, -1)
        output = functional.layer_norm(moved, gamma.shape, gamma, beta, eps)
        return output if moved is data else output.movedim(-1, axis)

    return run


@operator("L2Normalization")
def l2_normalization(attributes: Attributes) -> Operator:
    """Return ``x / sqrt(sum(x^2) + eps)`` over all axes but the first, over channels, or over positions."""
    eps = float(attributes.value("eps", 1e-10))
    mode = attributes.choice("mode", ("instance", "channel", "spatial"), "instance")

    def run(training: bool, data: Tensor) -> Tensor:
        axes = {"instance": range(1, data.ndim), "channel": (1,), "spatial": range(2, data.ndim)}[mode]
        return data * torch.rsqrt(data.square().sum(tuple(axes), keepdim=True) + eps)

    return run


@operator("LRN")
def local_response_norm(attributes: Attributes) -> Operator:
    """Return local response normalisation over neighbouring channels."""
    size, alpha = int(attributes.value("nsize")), float(attributes.value("alpha", 1e-4))
    beta, k = float(attributes.value("beta", 0.75)), float(attributes.value("knorm", 2.0))
    return lambda training, data: functional.local_response_norm(data, size, alpha, beta, k)


_ACTIVATIONS = {
    "relu": functional.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softrelu": functional.softplus,
    "softsign": functional.softsign,
}


@operator("Activation")
def activation(attributes: Attributes) -> Operator:
    """Return one of MXNet's activations without parameters."""
    function = _ACTIVATIONS[attributes.choice("act_type", tuple(_ACTIVATIONS))]
    return lambda training, data: function(data)


@operator("LeakyReLU")
def leaky_relu(attributes: Attributes) -> Operator:
    """Return PReLU with one slope a channel or one for all, or one of its relatives."""
    kind = attributes.choice("act_type", ("leaky", "prelu", "elu", "gelu"), "leaky")
    slope = float(attributes.value("slope", 0.25))
    if kind == "prelu":
        return lambda training, data, slopes: prelu(data, slopes)
    functions = {
        "leaky": lambda training, data: functional.leaky_relu(data, slope),
        "elu": lambda training, data: functional.elu(data, slope),
        "gelu": lambda training, data: functional.gelu(data),
    }
    return functions[kind]


@operator("hard_sigmoid")
def hard_sigmoid(attributes: Attributes) -> Operator:
    """Return ``min(max(alpha * x + beta, 0), 1)``, whose gradient at both ends is 0, as in MXNet."""
    alpha, beta = float(attributes.value("alpha", 0.2)), float(attributes.value("beta", 0.5))

    def run(training: bool, data: Tensor) -> Tensor:
        line = alpha * data + beta
        return torch.where((line > 0) & (line < 1), line, line.detach().clamp(0, 1))

    return run


@operator("Dropout")
def dropout(attributes: Attributes) -> Operator:
    """Return dropout, which is on in training, or with ``mode=always`` always. Which numbers fall is PyTorch's draw."""
    share = float(attributes.value("p", 0.5))
    always = attributes.choice("mode", ("training", "always"), "training") == "always"
    if attributes.numbers("axes", ()):
        attributes.refuse("drops along axes of its own")
    return lambda training, data: functional.dropout(data, share, training or always)


@operator("Pooling")
def pooling(attributes: Attributes) -> Operator:
    """Return pooling over windows, or over all positions, of two dimensions."""
    attributes.choice("layout", (None, "NCW", "NCHW", "NCDHW"), None)
    kind = attributes.choice("pool_type", ("max", "avg", "sum"), "max")
    is_global = attributes.flag("global_pool", False)
    kernel = attributes.numbers("kernel", ())
    stride = attributes.numbers("stride", ()) or (1,) * len(kernel)
    padding = attributes.numbers("pad", ()) or (0,) * len(kernel)
    convention = attributes.value("pooling_convention", "valid")
    count_padding = attributes.flag("count_include_pad", True)
    attributes.value("p_value", None)
    if is_global:  # with which the window and its convention mean nothing
        if kind == "max":  # the gradient goes to the first of equal numbers, as in MXNet
            return lambda training, data: data.flatten(2).max(2).values.reshape(*data.shape[:2], *[1] * (data.ndim - 2))
        reduce = {"avg": torch.mean, "sum": torch.sum}[kind]
        return lambda training, data: reduce(data, tuple(range(2, data.ndim)), keepdim=True)
    if len(kernel) != 2 or convention != "valid":
        attributes.refuse(f"has kernel={kernel} and pooling_convention={convention}; known are two numbers and valid")
    if kind == "max":
        return lambda training, data: functional.max_pool2d(data, kernel, stride, padding)
    divisor = 1 if kind == "sum" else None

    def run(training: bool, data: Tensor) -> Tensor:
        return functional.avg_pool2d(data, kernel, stride, padding, False, count_padding, divisor)

    return run


@operator("_contrib_BilinearResize2D")
def bilinear_resize(attributes: Attributes) -> Operator:
    """Return bilinear interpolation to a height and a width."""
    size = int(attributes.value("height")), int(attributes.value("width"))
    align = attributes.flag("align_corners", True)
    attributes.choice("mode", ("size",), "size")

    def run(training: bool, data: Tensor) -> Tensor:
        return functional.interpolate(data, size, mode="bilinear", align_corners=align)

    return run
