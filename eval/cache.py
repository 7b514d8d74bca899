"""Cache of embeddings on disk, by the fingerprints of network and images."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.eval.embed import ImageEmbedder
from vargfacenet.eval.plausible import warn_without_spread
from vargfacenet.formats.files import cache_folder
from vargfacenet.formats.rows import digest_file, open_rows, remove_part, write_rows

FLOAT32 = "<f4"
_VERSION = 3  # increase it with every change of how images are decoded, detected, aligned or embedded

log = logging.getLogger(__name__)


class EmbeddingCache:
    """A folder of embeddings of images and mirrors, ``KEY.npy``: float32 (images, 2, embedding_size).

    Parameters
    ----------
    folder
        ``embeddings`` in the user's cache by default.
    most_bytes
        Limit of its size; the least recently used files are deleted first.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, most_bytes: int = 8 << 30) -> None:
        self.folder = pathlib.Path(folder) if folder else cache_folder() / "embeddings"
        self._most_bytes = most_bytes

    def embed(
        self,
        embedder: ImageEmbedder,
        network: str,
        images: str,
        count: int,
        read: Callable[[int], np.ndarray],
        *,
        progress: Callable[[int], object] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the embeddings of images and of their mirrors, float32 (count, embedding_size) each, not normalised.

        They are computed if they are not in the cache.

        Parameters
        ----------
        embedder
            Computes the embeddings.
        network
            Fingerprint of the network and its runtime.
        images
            Fingerprint of the images, see `image_fingerprint` and `file_fingerprint`.
        count, read
            See `ImageEmbedder.embed_batches`.
        progress
            Called with the number of images done since the last call.

        Raises
        ------
        DataError
            If an image cannot be read, an embedding is not finite, or the folder cannot be written.
        """
        key = hashlib.blake2b(f"{_VERSION} {network} {images} {count}".encode(), digest_size=16).hexdigest()
        path = self.folder / f"{key}.npy"
        size = embedder.embed_batch(np.zeros((1, *IMAGE_SHAPE), np.float32)).shape[1]
        shape = (count, 2, size)
        if path.exists():
            try:
                found = self._opened(path, shape, progress)
            except DataError as error:
                log.warning("%s; the embeddings are computed again", str(error).partition("; delete it")[0])
            else:
                warn_without_spread(found[0])
                return found

        def make(done: int) -> Iterator[np.ndarray]:
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

    def _opened(
        self, path: pathlib.Path, shape: tuple[int, int, int], progress: Callable[[int], object] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        begin = open_rows(path, shape, FLOAT32, "run the same again").begin
        array = np.memmap(path, FLOAT32, "r", begin, shape)
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        if progress:
            progress(shape[0])
        return array[:, 0], array[:, 1]

    def _shrink(self, kept: pathlib.Path) -> None:
        """Delete the least recently used files, except `kept` and those being written, until the rest fits."""
        files = []
        for path in (path for kind in ("*.npy", "*.part") for path in self.folder.glob(kind) if path != kept):
            with contextlib.suppress(OSError):  # another process may have deleted it
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        left = self._most_bytes - kept.stat().st_size
        for _, size, path in sorted(files, reverse=True):
            left -= size
            if left < 0:
                with contextlib.suppress(OSError):
                    if path.suffix == ".part":
                        remove_part(path)
                    else:
                        path.unlink()
                        digest_file(path).unlink(missing_ok=True)


def image_fingerprint(encoded: Sequence[bytes]) -> str:
    """Return the fingerprint of encoded images, in their order."""
    hasher = hashlib.blake2b(digest_size=16)
    for image in encoded:
        hasher.update(len(image).to_bytes(8, "little"))
        hasher.update(image)
    return hasher.hexdigest()


def file_fingerprint(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Return the fingerprint of image files: of their paths, sizes and modification times, not of their bytes.

    Raises
    ------
    DataError
        If a file is missing.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        hasher.update(f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogatepass"))
    return hasher.hexdigest()
