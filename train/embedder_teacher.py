"""Teachers that MXNet does not run as they are, such as ONNX files: anything that embeds batches of images."""

from __future__ import annotations

import hashlib
import pathlib

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.eval import ImageEmbedder
from vargfacenet.train.teacher import Teacher, normalize_to_float16


class EmbedderTeacher(Teacher):
    """A teacher made of an embedder, whatever runs it; it has no checkpoint.

    Parameters
    ----------
    embedder
        Embeds images in RGB, 0..255; scaling of them is its own matter.
    fingerprint
        Text that differs for networks with other embeddings: it covers the bytes of the files and the scaling of images.
    argument
        The teacher in messages, and in the commands that they give.

    Raises
    ------
    DataError
        Where the embedder cannot embed an image.
    """

    def __init__(self, embedder: ImageEmbedder, fingerprint: str, *, argument: str) -> None:
        self._embedder, self.argument = embedder, argument
        self.embedding_size = embedder.embed_batch(np.zeros((1, *IMAGE_SHAPE), np.float32)).shape[1]
        self.fingerprint = hashlib.sha256(fingerprint.encode()).hexdigest()
        self.prefix, self.epoch = argument, 0  # as of a checkpoint: its classifier is looked for in the file's folder
        self.stored: pathlib.Path | None = None
        self.classifier: pathlib.Path | None = None

    def __str__(self) -> str:
        return self.argument

    def embedder(self, *, device: mx.Context | None = None, batch_size: int = 32) -> ImageEmbedder:
        """Return the embedder, which has its own device and batch size."""
        return self._embedder


class OnlineEmbedder:
    """Embeds each batch with the network of an `EmbedderTeacher`, where that runs.

    `mirror` adds the embedding of the image's mirror, as verification does.
    """

    def __init__(self, teacher: EmbedderTeacher, *, mirror: bool = False) -> None:
        self._teacher, self._embedder, self._mirror = teacher, teacher.embedder(), mirror

    def embed(self, batch: mx.io.DataBatch) -> mx.nd.NDArray:
        """Return the teacher's embeddings of a batch, see `vargfacenet.train.teacher.TeacherEmbeddings`.

        Its images are an NDArray, or a tensor of PyTorch on the CPU, as processes read it. DataError where one is missing
        or not finite.
        """
        images = batch.data[0]
        images = np.asarray(images.asnumpy() if isinstance(images, mx.nd.NDArray) else images, np.float32)
        found = self._embed(images)
        return found + self._embed(np.ascontiguousarray(images[:, :, :, ::-1])) if self._mirror else found

    def _embed(self, images: np.ndarray) -> mx.nd.NDArray:
        size = self._embedder.batch_size
        parts = [self._embedder.embed_batch(images[first : first + size]) for first in range(0, len(images), size)]
        embeddings = np.concatenate(parts)
        expected = (len(images), self._teacher.embedding_size)
        if embeddings.shape != expected:
            raise DataError(
                f"the teacher {self._teacher} gives an output of shape {embeddings.shape}, expected {expected}"
            )
        if not np.isfinite(embeddings).all():
            raise DataError(f"the teacher {self._teacher} gives embeddings that are not finite; it cannot teach")
        return normalize_to_float16(mx.nd.array(embeddings)).astype("float32")
