"""Embedding of images by a network."""

from __future__ import annotations

import abc
import concurrent.futures
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.formats.images import decode_image
from vargfacenet.operators import inference_form


class ImageEmbedder(abc.ABC):
    """Base class of networks that embed images, whatever runs them; a subclass sets `batch_size` and has `embed_batch`."""

    batch_size: int

    @abc.abstractmethod
    def embed_batch(self, images: np.ndarray) -> np.ndarray:
        """Embed up to `batch_size` images: float32 (n, 3, 112, 112), RGB, 0..255 -> float32 (n, embedding_size)."""

    def embed(
        self, encoded: Sequence[bytes], *, progress: Callable[[int], object] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Embed encoded images and their mirrors: float32 (len(encoded), embedding_size) each, not normalised.

        Images are decoded a batch at a time, ahead of the network. Memory for images does not grow with their number.

        Parameters
        ----------
        encoded
            JPEG or PNG, 112x112.
        progress
            Called with the number of images done since the last call.

        Raises
        ------
        DataError
            If an image cannot be decoded or has another size, naming the first.
        """
        return embed_images(self, len(encoded), functools.partial(_decode, encoded), progress=progress)

    def embed_batches(self, count: int, read: Callable[[int], np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the embeddings of images and of their mirrors, float32 (up to batch_size, embedding_size) each.

        `read` maps the number of an image, 0 .. count - 1, to the image, uint8 (112, 112, 3), RGB. It is called from
        threads, ahead of the network; its errors are raised here.
        """
        for images in _read_batches(count, read, self.batch_size):
            mirrored = np.ascontiguousarray(images[:, :, :, ::-1])
            both = self.embed_batch(images), self.embed_batch(mirrored)
            if any(part.ndim != 2 or len(part) != len(images) for part in both):
                raise DataError(
                    f"the network returns an output of shape {both[0].shape} for {len(images)} images, expected one row for "
                    "each: its graph mixes the images of a batch"
                )
            yield both


class Embedder(ImageEmbedder):
    """A network that MXNet runs.

    Its parameters cannot be changed; create another Embedder for other parameters.

    Parameters
    ----------
    symbol
        The plain embedding graph; what runs is `vargfacenet.operators.inference_form` of it.
    args, auxs
        Its parameters and running statistics.
    device
        The CPU by default.
    batch_size
        Images per batch.

    Raises
    ------
    CheckpointError
        Where the graph does not output one embedding for each face, or a parameter is missing or misshapen.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        args: Mapping[str, mx.nd.NDArray],
        auxs: Mapping[str, mx.nd.NDArray],
        *,
        device: mx.Context | None = None,
        batch_size: int = 32,
    ) -> None:
        self.batch_size = batch_size
        graph, args, auxs = inference_form(symbol, args, auxs, device=device)
        shape = {"data": (batch_size, *IMAGE_SHAPE)}
        types = {"data": np.float32}  # a graph may compute with others inside
        self._executor = graph.simple_bind(device or mx.cpu(), grad_req="null", type_dict=types, **shape)
        self._executor.copy_params_from(args, auxs)

    def embed_batch(self, images: np.ndarray) -> np.ndarray:
        """Embed images: float32 (n, 3, 112, 112), RGB, 0..255 -> float32 (n, embedding_size).

        More than `batch_size` of them are embedded a batch at a time. DataError for images of another shape.
        """
        images = np.asarray(images, np.float32)
        if not len(images) or images.shape[1:] != IMAGE_SHAPE:
            raise DataError(f"images of shape {images.shape}: expected (n, {', '.join(map(str, IMAGE_SHAPE))})")
        starts = range(0, len(images), self.batch_size)
        return np.concatenate([self._embed(images[start : start + self.batch_size]) for start in starts])

    def _embed(self, images: np.ndarray) -> np.ndarray:
        count = len(images)
        if count < self.batch_size:
            images = np.concatenate([images, np.zeros((self.batch_size - count, *IMAGE_SHAPE), np.float32)])
        return self._executor.forward(is_train=False, data=images)[0].asnumpy()[:count]


def embed_images(
    embedder: ImageEmbedder,
    count: int,
    read: Callable[[int], np.ndarray],
    *,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed at least one image and its mirror in memory: float32 (count, embedding_size) each, not normalised.

    For `count` and `read` see `ImageEmbedder.embed_batches`; `progress` is called with the number of images done since the
    last call.
    """
    whole: list[np.ndarray] = []
    done = 0
    for both in embedder.embed_batches(count, read):
        if not whole:
            whole = [np.empty((count, part.shape[1]), np.float32) for part in both]
        for array, part in zip(whole, both):
            array[done : done + len(part)] = part
        done += len(both[0])
        if progress:
            progress(len(both[0]))
    embeddings, mirrored = whole
    return embeddings, mirrored


def _decode(encoded: Sequence[bytes], place: int) -> np.ndarray:
    return decode_image(encoded[place], f"image {place}")


def _read_batches(count: int, read: Callable[[int], np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    starts = range(0, count, batch_size)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ahead = [pool.submit(_read_batch, read, start, min(batch_size, count - start)) for start in starts[:2]]
        for start in starts:
            images = ahead.pop(0).result()
            after = start + 2 * batch_size
            if after < count:
                ahead.append(pool.submit(_read_batch, read, after, min(batch_size, count - after)))
            yield images


def _read_batch(read: Callable[[int], np.ndarray], start: int, count: int) -> np.ndarray:
    images = np.empty((count, *IMAGE_SHAPE), np.float32)
    for row in range(count):
        images[row] = read(start + row).transpose(2, 0, 1)
    return images
