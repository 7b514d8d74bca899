"""Opening a checkpoint, an ONNX file or a bundled network as an embedder of images."""

import dataclasses
import logging
import pathlib
from collections.abc import Iterable, Mapping
from typing import Optional, Union

import mxnet as mx
import numpy as np

from vargfacenet.deploy.runtime import OnnxEmbedder
from vargfacenet.deploy.signature import OWN_SCALING, Scaling
from vargfacenet.errors import DataError
from vargfacenet.eval import ImageEmbedder
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.formats.checkpoint import checkpoint_files, existing_files, load_checkpoint
from vargfacenet.formats.files import fingerprint
from vargfacenet.models import find_model
from vargfacenet.operators import choose_backend

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network ready to embed images.

    ``fingerprint`` covers the files it came from, and the scaling of images where that is not the network's own.
    ``runtime`` is ``mxnet``, ``onnxruntime`` or ``openvino``. ``metadata`` holds the properties of an ONNX file or a
    bundled network.
    """

    embedder: ImageEmbedder
    fingerprint: str
    runtime: str
    metadata: Mapping[str, str]

    @property
    def cache_key(self) -> str:
        """The key under which embeddings are cached: files, runtime, and on MXNet the backend."""
        backend = f" {choose_backend()}" if self.runtime == "mxnet" else ""
        return f"{self.fingerprint} {self.runtime}{backend}"


class ScaledEmbedder(ImageEmbedder):
    """An embedder that scales images first."""

    def __init__(self, embedder: ImageEmbedder, scaling: Scaling) -> None:
        self._embedder, self.scaling = embedder, scaling
        self.batch_size = embedder.batch_size

    def embed_batch(self, images: np.ndarray) -> np.ndarray:
        return self._embedder.embed_batch(self.scaling.apply(images))


def is_onnx(model: Union[str, pathlib.Path]) -> bool:
    """Return True for the name of an ONNX file; another name is a checkpoint's prefix."""
    return pathlib.Path(model).suffix == ".onnx"


def check_model_exists(model: Union[str, pathlib.Path], epoch: int = 0) -> None:
    """Raise DataError or CheckpointError where the files of a model, as in `open_model`, do not exist."""
    if not is_onnx(model):
        existing_files(model, epoch)
    elif not pathlib.Path(model).is_file():
        raise DataError(f"cannot read {model}: no such file")


def open_model(
    model: Union[str, pathlib.Path],
    *,
    epoch: int = 0,
    runtime: str = "onnxruntime",
    device: Optional[mx.Context] = None,
    batch_size: int = 32,
    scaling: Optional[Scaling] = None,
) -> Model:
    """Open a network that embeds batches of images.

    Parameters
    ----------
    model
        An ONNX file, the prefix of a checkpoint, as in ``PREFIX-symbol.json``, or the name of a bundled network.
    epoch, device
        Of a checkpoint; the device is the CPU by default. An ONNX file runs on the CPU, and a warning says so.
    runtime
        ``onnxruntime`` or ``openvino``, for an ONNX file.
    scaling
        The scaling of images that the network expects. By default none for a checkpoint, and for an ONNX file the one
        that `vargfacenet.deploy.signature.scaling_of` finds.

    Raises
    ------
    CheckpointError, DataError, SettingError, SetupError
        As `load_checkpoint` and `OnnxEmbedder` do.
    """
    if is_onnx(model):
        if device is not None and not str(device).startswith("cpu"):
            log.warning("%s: ONNX files run on the CPU here, not on %s", model, device)
        onnx = OnnxEmbedder(model, runtime=runtime, batch_size=batch_size, scaling=scaling)
        return Model(onnx, _fingerprint_of([model], onnx.scaling), runtime, onnx.metadata)
    embedder: ImageEmbedder = make_embedder(*load_checkpoint(model, epoch), device=device, batch_size=batch_size)
    if scaling is not None and scaling != Scaling():
        embedder = ScaledEmbedder(embedder, scaling)
    bundled = find_model(model)
    metadata = bundled.metadata() if bundled else {}
    return Model(embedder, _fingerprint_of(checkpoint_files(model, epoch), scaling or OWN_SCALING), "mxnet", metadata)


def _fingerprint_of(files: Iterable[Union[str, pathlib.Path]], scaling: Scaling) -> str:
    return f"{fingerprint(files)} {scaling}".rstrip()
