"""What embeds images on a device, whichever engine the device is of; PyTorch is loaded only for devices of its own."""

from __future__ import annotations

import importlib
import typing

import mxnet as mx

from vargfacenet.eval.embed import Embedder, PictureEmbedder

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
) -> PictureEmbedder:
    """Return what embeds images by a network on a device, the CPU by default, whichever engine it is of."""
    if device is None or isinstance(device, mx.Context):
        return Embedder(symbol, args, auxs, device=device, batch_size=batch_size)
    return importlib.import_module("vargfacenet.torch.embed").TorchEmbedder(
        symbol, args, auxs, device=device, batch_size=batch_size
    )
