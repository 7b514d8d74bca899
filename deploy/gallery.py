"""A folder with faces of known people, and an exact search among them.

The folder holds ``gallery.npz``: l2-normalized embeddings (float32), names, and digests of the images, which are not
stored. A search is one matrix product: 100,000 faces of 512 numbers are 200 MB, and a search takes about 30 ms on one
core. For a gallery that outgrows memory, give ``Gallery.embeddings`` to an index library such as faiss.
"""

import collections
import contextlib
import fcntl
import functools
import hashlib
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Optional, Union

import numpy as np

from vargfacenet.deploy.faces import FaceModel
from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import read_npz
from vargfacenet.formats.files import atomic_path, read_bytes
from vargfacenet.options import unknown

FILE = "gallery.npz"

MOST_BYTES = 4 << 30  # of a gallery's file
_PORTION = 8192  # images between two writes of the file: what a stop can cost


class Hit(NamedTuple):
    """The name of a face in a gallery, and its cosine to the face that was searched."""

    name: str
    cosine: float


class Added(NamedTuple):
    """The numbers of faces that were added and that were known, and the error of each image that was skipped."""

    added: int
    known: int
    faults: dict[int, str]


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
        return self.add_readable(model, faces.__getitem__, names, digests).added

    def add_readable(
        self,
        model: FaceModel,
        read: Callable[[int], np.ndarray],
        names: Sequence[str],
        digests: Sequence[str],
        *,
        skip_bad: bool = False,
        progress: Optional[Callable[[int], object]] = None,
    ) -> Added:
        """Add faces as `add` does, and read them on the way; `read` and `skip_bad` as in `FaceModel.embed_readable`.

        The file is written after every few thousand images, so that a stop loses little: the images that are stored are
        known when the same ones are added again. `progress` is called with the number of images done since the last call.
        """
        self._read()
        self._check(model)
        known = set(self._digests)
        first = {one: place for place, one in reversed(list(enumerate(digests)))}
        new = [place for place, one in enumerate(digests) if one not in known and first[one] == place]
        if progress:
            progress(len(digests) - len(new))
        added, faults = 0, {}
        for start in range(0, len(new), _PORTION):
            portion = new[start : start + _PORTION]
            found = model.embed_readable(
                len(portion), functools.partial(_read_at, read, portion), skip_bad=skip_bad, progress=progress
            )
            faults.update({portion[row]: fault for row, fault in found.faults.items()})
            places = [portion[row] for row in found.places]
            added += self._store(
                model, found.embeddings, [names[place] for place in places], [digests[place] for place in places]
            )
        return Added(added, len(digests) - added - len(faults), faults)

    def remove(self, names: Sequence[str]) -> int:
        """Remove all faces of people, and return their number; DataError where a name is not in the gallery."""
        with self._locked():
            self._read()
            for name in names:
                if name not in self.names:
                    raise DataError(str(unknown(f"name in {self.path.parent}", name, set(self.names))))
            kept = [place for place, name in enumerate(self.names) if name not in set(names)]
            removed = len(self.names) - len(kept)
            self._write(
                self.embeddings[kept], [self.names[place] for place in kept], [self._digests[place] for place in kept]
            )
            return removed

    def faces_by_name(self) -> dict[str, int]:
        """Return the number of faces of each person, by name in alphabetical order."""
        return dict(sorted(collections.Counter(self.names).items()))

    def _store(self, model: FaceModel, embeddings: np.ndarray, names: Sequence[str], digests: Sequence[str]) -> int:
        """Write new faces, without those that another process has added meanwhile; return their number."""
        with self._locked():
            self._read()
            self._check(model)
            known = set(self._digests)
            rows = [row for row, one in enumerate(digests) if one not in known]
            if rows:
                new = embeddings[rows]
                self.fingerprint = model.fingerprint
                self._write(
                    np.concatenate([self.embeddings, new]) if self.names else new,
                    self.names + [names[row] for row in rows],
                    self._digests + [digests[row] for row in rows],
                )
            return len(rows)

    def _write(self, embeddings: np.ndarray, names: list[str], digests: list[str]) -> None:
        content = io.BytesIO()
        np.savez(
            content,
            embeddings=embeddings,
            names=np.array(names, np.str_),
            digests=np.array(digests, np.str_),
            network=np.array(self.fingerprint),
        )
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(content.getvalue())
        self.embeddings, self.names, self._digests = embeddings, names, digests

    def search(self, model: FaceModel, face: np.ndarray, *, top: int = 5) -> list[Hit]:
        """Return the nearest people, best first, each name once with its nearest face.

        `face` is uint8 (112, 112, 3), RGB; DataError where the gallery is empty or of another network.
        """
        self.check_searchable(model)
        return self.nearest(model.embed([face])[0], top=top)

    def check_searchable(self, model: FaceModel) -> None:
        """Raise DataError where the gallery is empty or of another network."""
        if not self.names:
            raise DataError(f"{self.path.parent} has no faces: add some with 'vargfacenet gallery add'")
        self._check(model)

    def nearest(self, embedding: np.ndarray, *, top: int = 5) -> list[Hit]:
        """Return the people nearest to an embedding of the gallery's network, (embedding_size,), as `search` does."""
        cosines = self.embeddings @ embedding
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


def _read_at(read: Callable[[int], np.ndarray], places: Sequence[int], row: int) -> np.ndarray:
    return read(places[row])


def image_digest(encoded: bytes) -> str:
    """Return the digest of an encoded image, by which it is recognised as known."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
