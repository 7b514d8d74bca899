"""Functions for services: from encoded images to l2-normalized embeddings and verdicts.

>>> from vargfacenet.deploy import load_model
>>> model = load_model("student.onnx")
>>> comparison = model.compare(open("a.jpg", "rb").read(), open("b.jpg", "rb").read())
>>> comparison.cosine, comparison.same
"""

import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional, Protocol, Union

import cv2
import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.alignment import align_face
from vargfacenet.data.detector import Detection
from vargfacenet.deploy.models import open_model
from vargfacenet.deploy.signature import Scaling
from vargfacenet.errors import DataError
from vargfacenet.eval import ImageEmbedder
from vargfacenet.eval.plausible import warn_without_spread
from vargfacenet.formats.images import decode_image


class Detector(Protocol):
    """An object that finds faces in images, such as `vargfacenet.data.detector.FaceDetector`."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Return the faces of an image: uint8 (height, width, 3), RGB."""


class Comparison(NamedTuple):
    """The result of comparing two faces.

    ``cosine`` is within -1 .. 1. ``same`` is True where it is above ``threshold``; both are None for a model without a
    threshold. ``far`` is the false accept rate at which the threshold was measured, None where that is unknown.
    """

    cosine: float
    same: Optional[bool]
    threshold: Optional[float]
    far: Optional[float]


class Embedded(NamedTuple):
    """Embeddings of the images that could be read: float32 (len(places), embedding_size), l2-normalized.

    ``places`` are the numbers of these images, in order; ``faults`` has the error of each other image by number.
    """

    embeddings: np.ndarray
    places: list[int]
    faults: dict[int, str]


class FaceModel:
    """A network that embeds faces, with a threshold. Threads may share it; they embed one after another.

    ``fingerprint`` is that of the files the network came from, ``threshold`` the cosine above which two faces are one
    identity, and ``far`` the false accept rate at which it was measured.
    """

    def __init__(
        self,
        embedder: ImageEmbedder,
        fingerprint: str,
        *,
        threshold: Optional[float] = None,
        far: Optional[float] = None,
    ) -> None:
        self._embedder, self._lock = embedder, threading.Lock()
        self.fingerprint, self.threshold, self.far = fingerprint, threshold, far

    def embed(self, images: Sequence[np.ndarray], *, progress: Optional[Callable[[int], object]] = None) -> np.ndarray:
        """Return embeddings of faces as verification computes them: image and mirror added, l2-normalized.

        Parameters
        ----------
        images
            Aligned faces: uint8 (112, 112, 3), RGB, as `face_of` gives them.
        progress
            Called with the number of images embedded since the last call.

        Returns
        -------
        float32 array (len(images), embedding_size)
        """
        return self.embed_readable(len(images), images.__getitem__, progress=progress).embeddings

    def embed_readable(
        self,
        count: int,
        read: Callable[[int], np.ndarray],
        *,
        skip_bad: bool = False,
        progress: Optional[Callable[[int], object]] = None,
    ) -> Embedded:
        """Embed faces as `embed` does, and read them on the way: memory for images does not grow with their number.

        Parameters
        ----------
        count
            Number of images.
        read
            Maps the number of an image, 0 .. count - 1, to an aligned face: uint8 (112, 112, 3), RGB. It is called from
            threads, ahead of the network.
        skip_bad
            Leave out the images for which `read` raises DataError; otherwise the error is raised.
        progress
            As in `embed`.
        """
        faults: dict[int, str] = {}

        def checked(place: int) -> np.ndarray:
            try:
                return read(place)
            except DataError as error:
                if not skip_bad:
                    raise
                faults[place] = str(error)
                return np.zeros((*IMAGE_SHAPE[1:], IMAGE_SHAPE[0]), np.uint8)

        rows: list[np.ndarray] = []
        done = 0
        with self._lock:
            for plain, mirrored in self._embedder.embed_batches(count, checked):
                both = plain + mirrored
                lengths = np.linalg.norm(both, axis=1, keepdims=True)
                both = (both / np.where(lengths == 0, 1, lengths)).astype(np.float32)
                rows.append(both[[done + row not in faults for row in range(len(both))]])
                done += len(both)
                if progress:
                    progress(len(both))
        found = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
        if not np.isfinite(found).all():
            raise DataError("the embeddings hold NaN or infinity: the network is damaged")
        warn_without_spread(found)
        return Embedded(found, [place for place in range(count) if place not in faults], dict(sorted(faults.items())))

    def compare(
        self, one: bytes, other: bytes, *, crop: bool = False, detector: Optional[Detector] = None
    ) -> Comparison:
        """Compare two encoded images, with the options and errors of `face_of`."""
        return self.compare_faces(
            face_of(one, "the first image", crop=crop, detector=detector),
            face_of(other, "the second image", crop=crop, detector=detector),
        )

    def compare_faces(self, one: np.ndarray, other: np.ndarray) -> Comparison:
        """Compare two aligned faces: uint8 (112, 112, 3), RGB; DataError where an embedding is zero."""
        first, second = self.embed([one, other])
        if not (first.any() and second.any()):
            raise DataError(
                "the network gives an embedding of zeros, which has no cosine: it is damaged or not trained"
            )
        cosine = float(np.clip(first @ second, -1, 1))
        same = None if self.threshold is None else cosine > self.threshold
        return Comparison(cosine, same, self.threshold, self.far)


def load_model(
    model: Union[str, pathlib.Path],
    *,
    epoch: int = 0,
    runtime: str = "onnxruntime",
    device: Optional[mx.Context] = None,
    threshold: Optional[float] = None,
    batch_size: int = 32,
    scaling: Optional[Scaling] = None,
) -> FaceModel:
    """Load a network that embeds faces.

    Arguments and errors are those of `vargfacenet.deploy.models.open_model`, with one more: `threshold` is the cosine,
    -1 .. 1, above which two faces are one identity; by default the one that ``vargfacenet export --verify`` stored in
    the file.
    """
    opened = open_model(model, epoch=epoch, runtime=runtime, device=device, batch_size=batch_size, scaling=scaling)
    far = None
    if threshold is None:
        threshold, far = (_number(opened.metadata.get(name), model) for name in ("threshold", "threshold_far"))
    return FaceModel(opened.embedder, opened.fingerprint, threshold=threshold, far=far)


def face_of(encoded: bytes, where: str, *, crop: bool = False, detector: Optional[Detector] = None) -> np.ndarray:
    """Decode an image to an aligned face.

    Parameters
    ----------
    encoded
        JPEG, PNG, BMP or WebP.
    where
        The name of the image in errors.
    crop
        Take the middle square, scaled, of an image that is not 112x112. That is not an alignment: networks depend on
        the places of the eyes.
    detector
        Finds the face in an image that is not 112x112, which is then aligned. It takes precedence over `crop`.

    Returns
    -------
    uint8 array (112, 112, 3), RGB.

    Raises
    ------
    DataError
        Where the bytes are not an image, a JPEG without its end, of more than 40 megapixels, or of another size without
        `crop` and `detector`; or where the detector finds no face, or several without one that is by far the largest.
    """
    height, width = IMAGE_SHAPE[1:]
    if not crop and detector is None:
        return decode_image(encoded, where)
    image = decode_image(encoded, where, shape=None)
    if image.shape[:2] == (height, width):
        return image
    if detector is not None:
        image = np.ascontiguousarray(image)
        return align_face(image, _face_in(detector.detect(image), where).points)
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    return cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA if side > width else cv2.INTER_CUBIC)


def _face_in(found: Sequence[Detection], where: str) -> Detection:
    """Return the one face of an image; faces less than half as large do not count."""
    if not found:
        raise DataError(f"{where} shows no face that the detector finds: give a larger, sharper or more frontal one")
    sizes = [min(right - left, bottom - top) for left, top, right, bottom in (one.box for one in found)]
    largest = found[int(np.argmax(sizes))]
    rivals = sum(size >= max(sizes) / 2 for size in sizes)
    if rivals > 1:
        raise DataError(f"{where} shows {rivals} faces of similar size: crop it to one")
    return largest


def _number(text: Optional[str], model: Union[str, pathlib.Path]) -> Optional[float]:
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = np.nan
    if number is not None and not abs(number) <= 1:
        raise DataError(
            f"{model} states {str(text)[:40]!r}, expected a number of -1 .. 1 for its threshold: export it again"
        )
    return number
