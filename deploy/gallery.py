"""A folder with faces of known people, and an exact search among them.

The folder holds ``gallery.npz``: l2-normalized embeddings (float32), names, and digests of the images, which are not
stored. A search is one matrix product: 100,000 faces of 512 numbers are 200 MB, and a search takes about 30 ms on one
core. For a gallery that outgrows memory, give ``Gallery.embeddings`` to an index library such as faiss.
"""

import contextlib
import fcntl
import hashlib
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Union

import numpy as np

from vargfacenet.deploy.faces import FaceModel
from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import read_npz
from vargfacenet.formats.files import atomic_path, read_bytes

FILE = "gallery.npz"

MOST_BYTES = 4 << 30  # of a gallery's file


class Hit(NamedTuple):
    """The name of a face in a gallery, and its cosine to the face that was searched."""

    name: str
    cosine: float


class Gallery:
    """Faces by name, for one network.

    The folder is made when faces are added. ``names`` has the name of each face; a person may have several faces.
    ``embeddings`` is float32 (faces, embedding_size), l2-normalized. ``fingerprint`` is the network's; it is empty for
    an empty gallery. DataError where the file is damaged.
    """

    names: list[str]
    embeddings: np.ndarray
    fingerprint: str

    def __init__(self, folder: Union[str, pathlib.Path]) -> None:
        self.path = pathlib.Path(folder) / FILE
        self._read()

    def add(self, model: FaceModel, faces: Sequence[np.ndarray], names: Sequence[str], digests: Sequence[str]) -> int:
        """Embed faces, store them under their names, and return the number of new ones.

        Parameters
        ----------
        faces
            Aligned: uint8 (112, 112, 3), RGB.
        digests
            `image_digest` of each image; images that are in the gallery already are skipped.

        Raises
        ------
        DataError
            Where the gallery is of another network, or cannot be written.
        """
        with self._locked():
            self._read()  # faces that another process has added meanwhile
            self._check(model)
            first = {one: place for place, one in reversed(list(enumerate(digests)))}
            known = set(self._digests)
            new = [place for place, one in enumerate(digests) if one not in known and first[one] == place]
            if not new:
                return 0
            embeddings = model.embed([faces[place] for place in new])
            if self.names:
                embeddings = np.concatenate([self.embeddings, embeddings])
            self.names += [names[place] for place in new]
            self._digests += [digests[place] for place in new]
            self.embeddings, self.fingerprint = embeddings, model.fingerprint
            content = io.BytesIO()
            np.savez(
                content,
                embeddings=embeddings,
                names=np.array(self.names, np.str_),
                digests=np.array(self._digests, np.str_),
                network=np.array(self.fingerprint),
            )
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(content.getvalue())
            return len(new)

    def search(self, model: FaceModel, face: np.ndarray, *, top: int = 5) -> list[Hit]:
        """Return the nearest people, best first, each name once with its nearest face.

        `face` is uint8 (112, 112, 3), RGB; DataError where the gallery is empty or of another network.
        """
        if not self.names:
            raise DataError(f"{self.path.parent} has no faces: add some with 'vargfacenet gallery add'")
        self._check(model)
        cosines = self.embeddings @ model.embed([face])[0]
        best: dict[str, float] = {}
        for place in np.argsort(-cosines, kind="stable"):
            best.setdefault(self.names[place], float(cosines[place]))
            if len(best) == top:
                break
        return [Hit(name, cosine) for name, cosine in best.items()]

    def _check(self, model: FaceModel) -> None:
        if self.names and model.fingerprint != self.fingerprint:
            raise DataError(
                f"{self.path} holds faces of another network, whose embeddings cannot be compared: make another gallery"
            )

    def _read(self) -> None:
        self.names, self._digests, self.fingerprint = [], [], ""
        self.embeddings = np.zeros((0, 0), np.float32)
        if not self.path.is_file():
            return
        try:
            saved = read_npz(read_bytes(self.path, limit=MOST_BYTES), self.path)
            self.embeddings, kinds = saved["embeddings"], [saved[name].dtype.kind for name in ("names", "digests")]
            self.names, self._digests = saved["names"].tolist(), saved["digests"].tolist()
            self.fingerprint = str(saved["network"])
            sound = kinds == ["U", "U"] and self.embeddings.dtype == np.float32 and self.embeddings.ndim == 2
            sound = sound and len(self.embeddings) == len(self.names) == len(self._digests)
            sound = sound and bool(np.isfinite(self.embeddings).all())
        except (DataError, KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise DataError(f"{self.path} is damaged, or is not a gallery")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(self.path.with_suffix(".lock"), "w")  # noqa: SIM115 - closed below
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def image_digest(encoded: bytes) -> str:
    """Return the digest of an encoded image, by which it is recognised as known."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
