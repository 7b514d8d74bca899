"""Computation of a run: the arithmetic of the network, its memory layout, and whether it is compiled."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from vargfacenet.errors import SettingError

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Compute:
    """Device and form of computation of a graph.

    Attributes
    ----------
    device
        Where.
    precision
        ``float32``, or ``bfloat16``: convolutions and products of the network in bfloat16, with parameters, their updates,
        normalisation, embedding and losses in float32.
    channels_last
        Images and weights lie with their channels together, which bfloat16 on GPUs wants.
    compiled
        ``torch.compile`` makes kernels of the graph first, in a minute or more.
    captured
        The passes of the network are recorded as CUDA graphs.
    slices
        Parts of this worker's batch that are computed one after another.
    whole_images
        Images hold whole numbers in 0..255, as they do unless faces are mixed.
    """

    device: torch.device
    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False
    captured: bool = False
    slices: int = 1
    whole_images: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingError(f"precision={self.precision}: engine=torch computes in {' or '.join(PRECISIONS)}")
        if self.captured and self.device.type != "cuda":
            raise SettingError(f"cuda_graphs=true on {self.device}: only a GPU has them; leave it out")

    def autocast(self) -> Any:
        """Return the context in which the network runs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def without_tf32() -> None:
    """Let GPUs compute float32 in float32, in this whole process: PyTorch takes TF32 for convolutions, of 10 bits."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
