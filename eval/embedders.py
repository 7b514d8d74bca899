"""Embedders of either engine, chosen by the device; PyTorch is loaded only for devices of its own."""

from __future__ import annotations

import typing

import mxnet as mx

from vargfacenet.engines import torch_module, uses_torch
from vargfacenet.eval.embed import Embedder, ImageEmbedder

if typing.TYPE_CHECKING:
    import torch

    Device = typing.Union[mx.Context, torch.device]


def make_embedder(
    symbol: mx.sym.Symbol,
    args: dict[str, mx.nd.NDArray],
    auxs: dict[str, mx.nd.NDArray],
    *,
    device: Device | None = None,
    batch_size: int = 32,
) -> ImageEmbedder:
    """Return an embedder of images on a device of MXNet or PyTorch, the CPU and MXNet by default."""
    if device is None or not uses_torch([device]):
        return Embedder(symbol, args, auxs, device=device, batch_size=batch_size)
    return torch_module("embed").TorchEmbedder(symbol, args, auxs, device=device, batch_size=batch_size)
