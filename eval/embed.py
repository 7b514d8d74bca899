"""Embeddings of images by a checkpoint."""

import concurrent.futures
import functools

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.formats.images import decode_image
from vargfacenet.operators import runnable


class ImageEmbedder:
    """What embeds images by a network, whatever runs it: a subclass has `batch_size` and `embed_batch`."""

    def embed_batch(self, images):
        """Embeddings of up to `batch_size` images: float32 (n, 3, 112, 112), RGB, 0..255 -> (n, embedding_size)."""
        raise NotImplementedError

    def embed(self, encoded, *, progress=None):
        """Embeddings of encoded images and of their mirrors.

        Images are decoded a batch at a time, ahead of the network; memory does not grow with their number.

        Parameters
        ----------
        encoded : sequence of bytes
            JPEG or PNG, 112x112.
        progress : callable, optional
            Called with the number of images done since the last call.

        Returns
        -------
        embeddings, mirrored : float32 arrays (len(encoded), embedding_size)
            Not normalised.

        Raises
        ------
        DataError
            Naming the first image that is none or of another size.
        """
        return embed_images(self, len(encoded), functools.partial(_decode, encoded), progress=progress)

    def embed_batches(self, count, read):
        """Embeddings of images and of their mirrors, a batch at a time; reading runs ahead in threads.

        Parameters
        ----------
        count : int
            Number of images.
        read : callable
            Place (0 .. count - 1) to image: uint8 (112, 112, 3), RGB. What it raises is raised here.

        Yields
        ------
        embeddings, mirrored : float32 arrays (up to batch_size, embedding_size)
        """
        for images in _read_batches(count, read, self.batch_size):
            mirrored = np.ascontiguousarray(images[:, :, :, ::-1])
            both = self.embed_batch(images), self.embed_batch(mirrored)
            if any(part.ndim != 2 or len(part) != len(images) for part in both):
                raise DataError(
                    f"the network gives an output of shape {both[0].shape} for {len(images)} images, expected one row each: "
                    "its graph joins the images of a batch"
                )
            yield both


class Embedder(ImageEmbedder):
    """A network ready to embed batches of images, in MXNet.

    Its parameters are those it was made with, for good: a bound inference module of MXNet 1.9.1 goes on with the old
    values of some after `set_params`. For other parameters make another.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        The plain embedding graph; its runnable form is what runs.
    args, auxs : dict of str to NDArray
        Its parameters and running statistics.
    device : mx.Context, optional
        The CPU by default.
    batch_size : int
        Images in a batch.
    """

    def __init__(self, symbol, args, auxs, *, device=None, batch_size=32):
        self.batch_size = batch_size
        self._module = mx.mod.Module(runnable(symbol, device=device), label_names=None, context=device or mx.cpu())
        self._module.bind([("data", (batch_size, *IMAGE_SHAPE))], for_training=False)
        self._module.set_params(args, auxs)

    def embed_batch(self, images):
        """Embeddings of up to `batch_size` images: float32 (n, 3, 112, 112), RGB, 0..255 -> (n, embedding_size)."""
        count = len(images)
        if count < self.batch_size:
            images = np.concatenate([images, np.zeros((self.batch_size - count, *IMAGE_SHAPE), np.float32)])
        self._module.forward(mx.io.DataBatch([mx.nd.array(images)]), is_train=False)
        return self._module.get_outputs()[0].asnumpy()[:count]


def embed_images(embedder, count, read, *, progress=None):
    """Embeddings of images and of their mirrors, whole, in memory.

    Parameters
    ----------
    embedder : ImageEmbedder
        What embeds.
    count, read : int, callable
        As of `ImageEmbedder.embed_batches`; at least one image.
    progress : callable, optional
        Called with the number of images done since the last call.

    Returns
    -------
    embeddings, mirrored : float32 arrays (count, embedding_size)
        Not normalised.
    """
    whole, done = None, 0
    for both in embedder.embed_batches(count, read):
        if whole is None:
            whole = tuple(np.empty((count, part.shape[1]), np.float32) for part in both)
        for array, part in zip(whole, both):
            array[done : done + len(part)] = part
        done += len(both[0])
        if progress:
            progress(len(both[0]))
    return whole


def _decode(encoded, place):
    return decode_image(encoded[place], f"image {place}")


def _read_batches(count, read, batch_size):
    starts = range(0, count, batch_size)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ahead = [pool.submit(_read_batch, read, start, min(batch_size, count - start)) for start in starts[:2]]
        for start in starts:
            images = ahead.pop(0).result()
            after = start + 2 * batch_size
            if after < count:
                ahead.append(pool.submit(_read_batch, read, after, min(batch_size, count - after)))
            yield images


def _read_batch(read, start, count):
    images = np.empty((count, *IMAGE_SHAPE), np.float32)
    for row in range(count):
        images[row] = read(start + row).transpose(2, 0, 1)
    return images
