"""Whatever holds a network, a checkpoint or an ONNX file, as what embeds pictures."""

import dataclasses
import pathlib

from vargfacenet.checkpoint import checkpoint_files, load_checkpoint
from vargfacenet.deploy.runtime import OnnxEmbedder
from vargfacenet.eval import Embedder
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
        Of the files it came from.
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


def is_onnx(model):
    """Whether a model (str or path) is named as an ONNX file is (bool); otherwise it is a checkpoint's prefix."""
    return pathlib.Path(model).suffix == ".onnx"


def open_model(model, *, epoch=0, runtime="onnxruntime", device=None, batch_size=32):
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

    Returns
    -------
    Model

    Raises
    ------
    CheckpointError, DataError, SettingError, SetupError
        As of `load_checkpoint` and `OnnxEmbedder`.
    """
    if is_onnx(model):
        embedder = OnnxEmbedder(model, runtime=runtime, batch_size=batch_size)
        return Model(embedder, fingerprint([model]), runtime, embedder.metadata)
    embedder = Embedder(*load_checkpoint(model, epoch), device=device, batch_size=batch_size)
    bundled = find_model(model)
    metadata = bundled.metadata() if bundled else {}
    return Model(embedder, fingerprint(checkpoint_files(model, epoch)), "mxnet", metadata)
