"""Embeddings of images by a checkpoint, and a teacher's, in PyTorch."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
import torch

from vargfacenet.eval.embed import ImageEmbedder
from vargfacenet.torch.checkpoint import module_of
from vargfacenet.torch.precision import Compute, without_tf32
from vargfacenet.torch.uploads import Uploader

_NORM_EPS = 1e-10  # that of mx.nd.L2Normalization


class TorchEmbedder(ImageEmbedder):
    """A network ready to embed batches of images, in PyTorch; see `vargfacenet.eval.Embedder`.

    Parameters
    ----------
    symbol
        The plain embedding graph.
    args, auxs
        Its parameters and running statistics.
    device
        Where it runs.
    batch_size
        Images in a batch.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        args: dict[str, mx.nd.NDArray],
        auxs: dict[str, mx.nd.NDArray],
        *,
        device: torch.device,
        batch_size: int = 32,
    ) -> None:
        without_tf32()
        self.batch_size, self._device = batch_size, device
        needed = {name: value for name, value in {**args, **auxs}.items() if name in _parameters(symbol)}
        self._module = module_of(symbol, needed).to(device).eval()

    def embed_batch(self, images: np.ndarray) -> np.ndarray:
        """Return embeddings of up to `batch_size` images: float32 (n, 3, 112, 112), RGB, 0..255 -> (n, embedding_size)."""
        with torch.inference_mode():
            return self._module(torch.from_numpy(np.ascontiguousarray(images)).to(self._device)).float().cpu().numpy()


class TorchTeacher:
    """Embeds each batch with the teacher's network, as `vargfacenet.train.teacher.OnlineTeacher` does, in PyTorch.

    Parameters
    ----------
    teacher
        Whose embeddings.
    compute
        Device and precision.
    mirror
        The embedding of the image's mirror is added, as verification does.
    """

    def __init__(self, teacher: Any, compute: Compute, *, mirror: bool = False) -> None:
        symbol, args, auxs = teacher.checkpoint
        self._mirror, self._compute = mirror, compute
        self._uploader = Uploader(compute.device, whole=compute.whole_images, channels_last=compute.channels_last)
        self._module = module_of(symbol, {**args, **auxs}).to(compute.device).eval()
        if compute.channels_last:
            self._module.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def embed(self, batch: mx.io.DataBatch) -> torch.Tensor:
        """Return the teacher's embeddings of a batch of `FaceIterator`: (N, embedding_size) on the device, not waited for."""
        images = self._uploader.images(batch)
        found = self._embed(images)
        return found + self._embed(images.flip(3)) if self._mirror else found

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        with self._compute.autocast():
            embeddings = self._module(images).float()
        lengths = torch.rsqrt(embeddings.square().sum(1, keepdim=True) + _NORM_EPS)
        return (embeddings * lengths).half().float()  # rounded as stored embeddings are


def _parameters(symbol: mx.sym.Symbol) -> set[str]:
    return {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {"data"}
