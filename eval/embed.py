"""Embeddings of pictures by a checkpoint."""

import concurrent.futures
import itertools

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.environment import usable_cores
from vargfacenet.operators import runnable
from vargfacenet.pictures import decode_picture


class Embedder:
    """A network ready to embed batches of pictures.

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
        Pictures in a batch.
    """

    def __init__(self, symbol, args, auxs, *, device=None, batch_size=32):
        self.batch_size = batch_size
        self._module = mx.mod.Module(runnable(symbol, device=device), label_names=None, context=device or mx.cpu())
        self._module.bind([("data", (batch_size, *IMAGE_SHAPE))], for_training=False)
        self._module.set_params(args, auxs)

    def embed_batch(self, pictures):
        """Embeddings of up to `batch_size` pictures: float32 (n, 3, 112, 112), RGB, 0..255 -> (n, embedding_size)."""
        count = len(pictures)
        if count < self.batch_size:
            pictures = np.concatenate([pictures, np.zeros((self.batch_size - count, *IMAGE_SHAPE), np.float32)])
        self._module.forward(mx.io.DataBatch([mx.nd.array(pictures)]), is_train=False)
        return self._module.get_outputs()[0].asnumpy()[:count]

    def embed(self, encoded, *, progress=None):
        """Embeddings of encoded pictures and of their mirrors.

        Pictures are decoded a batch at a time, ahead of the network; memory does not grow with their number.

        Parameters
        ----------
        encoded : sequence of bytes
            JPEG or PNG, 112x112.
        progress : callable, optional
            Called with the number of pictures done since the last call.

        Returns
        -------
        embeddings, mirrored : float32 arrays (len(encoded), embedding_size)
            Not normalised.

        Raises
        ------
        DataError
            Naming the first picture that is none or of another size.
        """
        plain, mirrored = [], []
        for pictures in _decoded_batches(encoded, self.batch_size):
            plain.append(self.embed_batch(pictures))
            mirrored.append(self.embed_batch(np.ascontiguousarray(pictures[:, :, :, ::-1])))
            if progress:
                progress(len(pictures))
        return np.concatenate(plain), np.concatenate(mirrored)


def _decoded_batches(encoded, batch_size):
    starts = range(0, len(encoded), batch_size)
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        ahead = [pool.submit(_decode_batch, encoded, start, batch_size) for start in itertools.islice(starts, 2)]
        for start in starts:
            pictures = ahead.pop(0).result()
            if start + 2 * batch_size < len(encoded):
                ahead.append(pool.submit(_decode_batch, encoded, start + 2 * batch_size, batch_size))
            yield pictures


def _decode_batch(encoded, start, count):
    pictures = np.empty((min(count, len(encoded) - start), *IMAGE_SHAPE), np.float32)
    for row in range(len(pictures)):
        pictures[row] = decode_picture(encoded[start + row], f"picture {start + row}").transpose(2, 0, 1)
    return pictures
