"""From encoded images to unit embeddings and verdicts: the few functions that services need.

>>> from vargfacenet.deploy import load_model
>>> model = load_model("student.onnx")
>>> comparison = model.compare(open("a.jpg", "rb").read(), open("b.jpg", "rb").read())
>>> comparison.cosine, comparison.same
"""

import collections
import threading

import cv2
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.alignment import align_face
from vargfacenet.deploy.models import open_model
from vargfacenet.errors import DataError
from vargfacenet.eval.plausible import warn_without_spread
from vargfacenet.formats.images import decode_image

Comparison = collections.namedtuple("Comparison", "cosine same threshold far")
Comparison.__doc__ = (
    "Cosine of two faces, -1 .. 1; whether it is above the threshold, None where there is none; the threshold, and the "
    "false accept rate at which it was measured, None where that is not known."
)


class FaceModel:
    """A network that embeds faces, with the threshold it was given.

    Threads may share it; they embed in turn.

    Parameters
    ----------
    embedder : ImageEmbedder
        What runs the network.
    mark : str
        Fingerprint of the files it came from.
    threshold, far : float, optional
        The cosine above which two faces are one person, and the false accept rate at which it was measured.
    """

    def __init__(self, embedder, mark, *, threshold=None, far=None):
        self._embedder, self._turn = embedder, threading.Lock()
        self.fingerprint, self.threshold, self.far = mark, threshold, far

    def embed(self, images, *, progress=None):
        """Embeddings of faces as verification takes them: image and mirror added, at length 1.

        Parameters
        ----------
        images : list of uint8 array (112, 112, 3)
            Aligned faces, RGB, as of `face_of`.
        progress : callable, optional
            Called with the number of images done since the last call.

        Returns
        -------
        float32 array (len(images), embedding_size)
        """
        rows = []
        with self._turn:
            for plain, mirrored in self._embedder.embed_batches(len(images), images.__getitem__):
                both = plain + mirrored
                lengths = np.linalg.norm(both, axis=1, keepdims=True)
                rows.append(both / np.where(lengths == 0, 1, lengths))
                if progress:
                    progress(len(both))
        found = np.concatenate(rows).astype(np.float32) if rows else np.zeros((0, 0), np.float32)
        if not np.isfinite(found).all():
            raise DataError("the embeddings hold NaN or infinity: the network is damaged")
        warn_without_spread(found)
        return found

    def compare(self, one, other, *, crop=False, detector=None):
        """Whether two encoded images (bytes) show one person: a `Comparison`; options and errors of `face_of`."""
        options = {"crop": crop, "detector": detector}
        return self.compare_faces(
            face_of(one, "the first image", **options), face_of(other, "the second image", **options)
        )

    def compare_faces(self, one, other):
        """The same of two aligned faces, uint8 arrays (112, 112, 3), RGB."""
        first, second = self.embed([one, other])
        cosine = float(np.clip(first @ second, -1, 1))
        same = None if self.threshold is None else cosine > self.threshold
        return Comparison(cosine, same, self.threshold, self.far)


def load_model(model, *, epoch=0, runtime="onnxruntime", device=None, threshold=None, batch_size=32, scaling=None):
    """A network ready to embed faces.

    Parameters
    ----------
    model, epoch, runtime, device, batch_size, scaling
        As of `vargfacenet.deploy.models.open_model`.
    threshold : float, optional
        The cosine, -1 .. 1, above which two faces are one person; by default what ``vargfacenet export --verify`` left in
        the file.

    Returns
    -------
    FaceModel

    Raises
    ------
    CheckpointError, DataError, SettingError, SetupError
        As of `open_model`.
    """
    options = {"epoch": epoch, "runtime": runtime, "device": device, "batch_size": batch_size, "scaling": scaling}
    opened, far = open_model(model, **options), None
    if threshold is None:
        threshold, far = (_number(opened.metadata.get(name), model) for name in ("threshold", "threshold_far"))
    return FaceModel(opened.embedder, opened.fingerprint, threshold=threshold, far=far)


def face_of(encoded, where, *, crop=False, detector=None):
    """An encoded image as an aligned face.

    Parameters
    ----------
    encoded : bytes
        JPEG, PNG, BMP or WebP.
    where : str
        What the image is, for errors.
    crop : bool
        Whether of an image of another size than 112x112 the middle square is taken, scaled. That is no alignment: a
        network is as good as the place of the eyes.
    detector : optional
        What finds faces in an image of another size, such as `vargfacenet.data.detector.FaceDetector`; the one face of the
        image is aligned. It goes before `crop`.

    Returns
    -------
    uint8 array (112, 112, 3)
        RGB.

    Raises
    ------
    DataError
        Where the bytes are no image, a JPEG without its end, of more than 40 megapixels, of another size without `crop`
        and `detector`, or where the detector finds no face or several of which none is by far the largest.
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


def _face_in(found, where):
    """The Detection of an image's one face: bystanders that are less than half as large do not count."""
    if not found:
        raise DataError(f"{where} shows no face that is found: give one that is larger, sharper or more from the front")
    sizes = [min(right - left, bottom - top) for left, top, right, bottom in (one.box for one in found)]
    largest = found[int(np.argmax(sizes))]
    rivals = sum(size >= max(sizes) / 2 for size in sizes)
    if rivals > 1:
        raise DataError(f"{where} shows {rivals} faces of like size: cut it to the one that is meant")
    return largest


def _number(text, model):
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = np.nan
    if number is not None and not abs(number) <= 1:
        raise DataError(f"{model} says {text[:40]!r} where a number of -1 .. 1 belongs: export it anew")
    return number
