"""Embeddings kept on disk by the fingerprints of network and images, so that a second protocol on them costs nothing."""

import contextlib
import hashlib
import os
import pathlib

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.eval.plausible import warn_without_spread
from vargfacenet.formats.files import cache_folder
from vargfacenet.formats.rows import is_being_written, open_rows, write_rows

FLOAT32 = "<f4"
_MAKING = 2  # to be raised with every change of how images are decoded, found, aligned or embedded


class EmbeddingCache:
    """A folder of embeddings, ``KEY.npy``: float32 (images, 2, embedding_size), of images and mirrors.

    Parameters
    ----------
    folder : path, optional
        ``embeddings`` in the user's cache by default.
    most_bytes : int
        What it may hold: the files that were not used for longest go first.
    """

    def __init__(self, folder=None, *, most_bytes=8 << 30):
        self.folder = pathlib.Path(folder) if folder else cache_folder() / "embeddings"
        self._most_bytes = most_bytes

    def embed(self, embedder, network, images, count, read, *, progress=None):
        """Embeddings of images and of their mirrors, computed where they are not kept.

        Parameters
        ----------
        embedder : ImageEmbedder
            What embeds.
        network : str
            What tells the network and its runtime from others.
        images : str
            Fingerprint of the images, as of `image_fingerprint` or `file_fingerprint`.
        count, read : int, callable
            As of `ImageEmbedder.embed_batches`.
        progress : callable, optional
            Called with the number of images done since the last call.

        Returns
        -------
        embeddings, mirrored : float32 arrays (count, embedding_size)
            Not normalised.

        Raises
        ------
        DataError
            What `read` raises, and where an embedding is not finite or the folder cannot be written.
        """
        key = hashlib.blake2b(f"{_MAKING} {network} {images} {count}".encode(), digest_size=16).hexdigest()
        path = self.folder / f"{key}.npy"
        size = embedder.embed_batch(np.zeros((1, *IMAGE_SHAPE), np.float32)).shape[1]
        shape = (count, 2, size)
        if path.exists():
            with contextlib.suppress(DataError):  # of a damaged file, which is then made again
                found = self._opened(path, shape, progress)
                warn_without_spread(found[0])
                return found

        def make(done):
            for plain, mirrored in embedder.embed_batches(count - done, lambda place: read(done + place)):
                both = np.stack([plain, mirrored], axis=1)
                if not np.isfinite(both).all():
                    raise DataError("the embeddings hold NaN or infinity: the network is damaged")
                yield both

        write_rows(path, shape, FLOAT32, make, progress=progress)
        self._shrink(path)
        found = self._opened(path, shape, None)
        warn_without_spread(found[0])
        return found

    def _opened(self, path, shape, progress):
        begin = open_rows(path, shape, FLOAT32, "run the same again").begin
        array = np.memmap(path, FLOAT32, "r", begin, shape)
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        if progress:
            progress(shape[0])
        return array[:, 0], array[:, 1]

    def _shrink(self, kept):
        """Deletes what was not used for longest, `kept` and what is being written left out, until the rest fits."""
        files = []
        for path in (path for kind in ("*.npy", "*.part") for path in self.folder.glob(kind) if path != kept):
            with contextlib.suppress(OSError):  # another process may have deleted it
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        left = self._most_bytes - kept.stat().st_size
        for _, size, path in sorted(files, reverse=True):
            left -= size
            if left < 0 and not (path.suffix == ".part" and is_being_written(path)):
                with contextlib.suppress(OSError):
                    path.unlink()


def image_fingerprint(encoded):
    """A digest (str) of encoded images (sequence of bytes), in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for image in encoded:
        digest.update(len(image).to_bytes(8, "little"))
        digest.update(image)
    return digest.hexdigest()


def file_fingerprint(paths):
    """A digest (str) of image files: their paths, sizes and times of change, not their bytes; DataError names one missing."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            about = os.stat(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        digest.update(
            f"{os.path.abspath(path)}\0{about.st_size}\0{about.st_mtime_ns}\0".encode("utf-8", "surrogatepass")
        )
    return digest.hexdigest()
