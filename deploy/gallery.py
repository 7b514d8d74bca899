"""Faces of people who are known, in a folder, and an exact search among them.

A folder holds ``gallery.npz``: unit embeddings (float32), names, and digests of the images, which are not kept
themselves. Search is one matrix product: 100,000 faces of 512 numbers are 200 MB, and a search takes some 30 ms on one core.
Galleries that outgrow memory belong into a library of indexes, such as faiss, which takes ``Gallery.embeddings`` as they are.
"""

import collections
import contextlib
import fcntl
import hashlib
import io
import pathlib

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import read_npz
from vargfacenet.formats.files import atomic_path, read_bytes

FILE = "gallery.npz"

Hit = collections.namedtuple("Hit", "name cosine")
Hit.__doc__ = "The name of a face in a gallery, and its cosine to the one searched."

MOST_BYTES = 4 << 30  # of a gallery's file


class Gallery:
    """Faces by name, for one network.

    Parameters
    ----------
    folder : str or path
        Made when something is added.

    Attributes
    ----------
    names : list of str
        One for each face; a person may have several.
    embeddings : float32 array (faces, embedding_size)
        At length 1.
    fingerprint : str
        Of the network; empty where the gallery is.

    Raises
    ------
    DataError
        Where the file is damaged.
    """

    def __init__(self, folder):
        self.path = pathlib.Path(folder) / FILE
        self._read()

    def add(self, model, faces, names, digests):
        """Embeds faces and keeps them under their names.

        Parameters
        ----------
        model : FaceModel
            The network, always the same for one gallery.
        faces : list of uint8 array (112, 112, 3)
            Aligned, RGB.
        names : list of str
            One for each.
        digests : list of str
            Of the images, as `image_digest` gives them; what is there already is left out.

        Returns
        -------
        int
            How many were added.

        Raises
        ------
        DataError
            Where the gallery is of another network, or cannot be written.
        """
        with self._locked():
            self._read()  # what another process has added meanwhile
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

    def search(self, model, face, *, top=5):
        """The nearest people: list of `Hit`, best first, each name once with its nearest face.

        `face` is a uint8 array (112, 112, 3); DataError where the gallery is empty or of another network.
        """
        if not self.names:
            raise DataError(f"{self.path.parent} has no faces: add some with 'vargfacenet gallery add'")
        self._check(model)
        cosines = self.embeddings @ model.embed([face])[0]
        best = {}
        for place in np.argsort(-cosines, kind="stable"):
            best.setdefault(self.names[place], float(cosines[place]))
            if len(best) == top:
                break
        return [Hit(name, cosine) for name, cosine in best.items()]

    def _check(self, model):
        if self.names and model.fingerprint != self.fingerprint:
            raise DataError(
                f"{self.path} holds faces of another network, whose embeddings cannot be compared: make another gallery"
            )

    def _read(self):
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
            raise DataError(f"{self.path} is damaged or no gallery")

    @contextlib.contextmanager
    def _locked(self):
        """One process at a time writes."""
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
