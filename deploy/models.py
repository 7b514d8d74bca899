"""Whatever holds a network, a checkpoint or an ONNX file, as what embeds pictures."""

import dataclasses
import pathlib

from vargfacenet.checkpoint import checkpoint_files, load_checkpoint
from vargfacenet.deploy.runtime import OnnxEmbedder
from vargfacenet.deploy.signature import OWN_SCALING, Scaling
from vargfacenet.eval import PictureEmbedder
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.files import fingerprint
from vargfacenet.models import find_model


@dataclasses.dataclass(frozen=True)
class Model:
    """A network ready to embed pictures.

    Attributes
    ----------
    embedder : PictureEmbedder
        What embeds.
    fingerprint : str
        Of the files it came from, and of the scaling of images where that is not the network's own.
    runtime : str
        What runs it: ``mxnet``, ``onnxruntime`` or ``openvino``.
    metadata : dict of str to str
        What an ONNX file says of itself; empty for a checkpoint.
    """

    embedder: object
    fingerprint: str
    runtime: str
    metadata: dict

    @property
    def mark(self):
        """What its embeddings may be kept under (str): files and runtime."""
        return f"{self.fingerprint} {self.runtime}"


class ScaledEmbedder(PictureEmbedder):
    """An embedder whose network needs images scaled first.

    Parameters
    ----------
    embedder : PictureEmbedder
        What embeds.
    scaling : Scaling
        What images need before.
    """

    def __init__(self, embedder: PictureEmbedder, scaling: Scaling):
        self._embedder, self.scaling, self.batch_size = embedder, scaling, embedder.batch_size

    def embed_batch(self, pictures):
        return self._embedder.embed_batch(self.scaling.apply(pictures))


def is_onnx(model):
    """Whether a model (str or path) is named as an ONNX file is (bool); otherwise it is a checkpoint's prefix."""
    return pathlib.Path(model).suffix == ".onnx"


def open_model(model, *, epoch=0, runtime="onnxruntime", device=None, batch_size=32, scaling=None):
    """A network ready to embed batches of pictures.

    Parameters
    ----------
    model : str or path
        An ONNX file, or the prefix of a checkpoint, as in ``PREFIX-symbol.json``.
    epoch : int
        Of a checkpoint.
    runtime : str
        ``onnxruntime`` or ``openvino``, for an ONNX file.
    device : mx.Context, optional
        For a checkpoint; the CPU by default.
    batch_size : int
        Pictures at a time.
    scaling : Scaling, optional
        What images need before the network takes them. By default an ONNX file's as
        `vargfacenet.deploy.signature.scaling_of` finds it, and none for a checkpoint.

    Returns
    -------
    Model

    Raises
    ------
    CheckpointError, DataError, SettingError, SetupError
        As of `load_checkpoint` and `OnnxEmbedder`.
    """
    if is_onnx(model):
        embedder = OnnxEmbedder(model, runtime=runtime, batch_size=batch_size, scaling=scaling)
        return Model(embedder, _mark([model], embedder.scaling), runtime, embedder.metadata)
    embedder = make_embedder(*load_checkpoint(model, epoch), device=device, batch_size=batch_size)
    if scaling not in (None, Scaling()):
        embedder = ScaledEmbedder(embedder, scaling)
    bundled = find_model(model)
    metadata = bundled.metadata() if bundled else {}
    return Model(embedder, _mark(checkpoint_files(model, epoch), scaling or OWN_SCALING), "mxnet", metadata)


def _mark(files, scaling):
    return f"{fingerprint(files)} {scaling}".rstrip()
