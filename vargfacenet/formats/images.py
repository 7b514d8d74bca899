"""Decode and encode images, the same way everywhere."""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.formats.content import what_file_it_is, what_it_is
from vargfacenet.formats.files import PathLike, read_bytes
from vargfacenet.formats.image_headers import image_form, is_whole_png, jpeg_end, webp_orientation

NOT_ALIGNED = "not-aligned.txt"  # next to folders of images: those that could not be aligned, and why
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
JPEG_QUALITY = 95
MOST_PIXELS = 40_000_000
MOST_BYTES = 64 << 20  # of an image file
MOST_SCANS = 64  # of a progressive JPEG; encoders write about ten, and decoding each one passes over the whole image
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def read_image(path: PathLike) -> bytes:
    """Return the bytes of an image file; DataError where it cannot be read, or has more than `MOST_BYTES`."""
    return read_bytes(path, limit=MOST_BYTES)


def decode_image(
    encoded: bytes, where: object, *, shape: Sequence[int] | None = IMAGE_SHAPE[1:], plain: bool = False
) -> np.ndarray:
    """Decode an image, after checking its header: nothing of an unwanted size is allocated.

    Parameters
    ----------
    encoded
        JPEG, PNG, BMP or WebP.
    where
        Name of the image, for errors.
    shape
        Height and width that it must have; None for any up to `MOST_PIXELS`.
    plain
        Whether to refuse images that lose something in the conversion to RGB of 8 bits: alpha, CMYK, 16 bits.

    Returns
    -------
    np.ndarray
        uint8 (height, width, 3), RGB; of a grey image, three equal channels. Its EXIF orientation is applied.

    Raises
    ------
    DataError
        Where the bytes are not an image, a JPEG lacks its end, or the image has another form.
    """
    form = image_form(encoded)
    if form is None:
        raise DataError(
            f"{where}: {len(encoded)} bytes that are not an image: expected JPEG, PNG, BMP or WebP{what_it_is(encoded)}"
        )
    if form.height * form.width > MOST_PIXELS:
        raise DataError(
            f"{where} is {form.width}x{form.height}, {form.height * form.width / 1e6:.1f} megapixels; expected at most "
            f"{MOST_PIXELS // 10**6}: make it smaller first"
        )
    # EXIF data may swap height and width.
    if shape is not None and (form.height, form.width) not in (tuple(shape), tuple(shape)[::-1]):
        raise _wrong_size(where, (form.height, form.width), shape)
    if plain and (form.channels not in (1, 3) or form.bits > 8):
        raise DataError(
            f"{where} is a {form.kind} of {form.channels} channels of {form.bits} bits, expected RGB of 8 bits: convert it"
        )
    if form.kind == "JPEG":
        encoded = encoded[: jpeg_end(encoded)]  # phones append a video to the image
    if is_cut(encoded):
        raise DataError(f"{where} is a JPEG that is cut before its end")
    if form.kind == "PNG" and not is_whole_png(encoded):
        raise DataError(f"{where}: {len(encoded)} bytes that are not an image: a PNG that is cut, damaged or animated")
    # A small file of a small image cannot hold enough scans to matter.
    is_large = shape is None or len(encoded) > 1 << 16
    if form.kind == "JPEG" and is_large and encoded.count(_JPEG_SCAN) > MOST_SCANS:
        raise DataError(f"{where} is a JPEG of more than {MOST_SCANS} scans, which would take very long to decode")
    # OpenCV applies the orientation of JPEG and PNG, and that of WebP only in some versions.
    turns = cv2.IMREAD_IGNORE_ORIENTATION if form.kind == "WebP" else 0
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR | turns)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{where}: {len(encoded)} bytes that are not an image that OpenCV can decode")
    if form.kind == "WebP":
        image = _TURNS[webp_orientation(encoded)](image)
    if shape is not None and image.shape[:2] != tuple(shape):
        raise _wrong_size(where, image.shape, shape)
    return image[:, :, ::-1]


# How to bring an image of each EXIF orientation upright.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}


def _wrong_size(where: object, found: Sequence[int], shape: Sequence[int]) -> DataError:
    return DataError(
        f"{where} is {found[1]}x{found[0]} pixels, expected an aligned face of {shape[1]}x{shape[0]}: "
        "align it first (--align, or 'vargfacenet data align')"
    )


class DecoderWarnings:
    """Catch libjpeg's warnings of damage that it decodes nevertheless: it prints them to standard error only.

    While it listens, it also catches other output of the process there, so no other thread may be working.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the object lives

    def listen(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
        """Call a function, and return its result and the first warning, if any."""
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        try:
            value = function(*arguments)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            self._file.seek(0)
            lines = self._file.read(1 << 16).decode("utf-8", errors="replace").splitlines()
            self._file.seek(0)
            self._file.truncate()
        return value, next((line.strip() for line in lines if "JPEG" in line), None)


def is_cut(encoded: bytes) -> bool:
    """Return whether a JPEG lacks its end. OpenCV decodes such a file to a half-grey image without an error.

    Bytes after the end, such as a phone's video, do not matter. Damage in the middle cannot be told from content.
    """
    if not encoded.startswith(_JPEG_START) or encoded.endswith(_JPEG_END):
        return False
    if jpeg_end(encoded) is not None:
        return False
    # Search after the last scan, as a thumbnail in the header has markers of its own.
    return encoded.find(_JPEG_END, encoded.rfind(_JPEG_SCAN)) < 0


def encode_jpeg(image: np.ndarray, *, quality: int = JPEG_QUALITY) -> bytes:
    """Encode a uint8 array (height, width, 3), RGB, as JPEG."""
    done, encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"an image of shape {image.shape} cannot be encoded")
    return encoded.tobytes()


def as_face_jpeg(encoded: bytes, where: object, *, resize: bool = False) -> bytes:
    """Return an image file's bytes as a 112x112 JPEG; one that already is a 112x112 JPEG is not encoded again.

    DataError where it is not an image, is cut, or has another size and `resize` is not set.
    """
    height, width = IMAGE_SHAPE[1:]
    image = decode_image(encoded, where, shape=None)
    if image.shape[:2] != (height, width):
        if not resize:
            raise DataError(
                f"{where} is {image.shape[1]}x{image.shape[0]} pixels, expected an aligned face of {width}x{height}; "
                "align it first (vargfacenet data align), or give --resize to scale it as it is"
            )
        return encode_jpeg(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    form = image_form(encoded)
    is_plain = form is not None and form.kind == "JPEG" and form.channels != 4
    return encoded[: jpeg_end(encoded)] if is_plain else encode_jpeg(image)


def encode_png(image: np.ndarray) -> bytes:
    """Encode a uint8 array (height, width, 3), RGB, as PNG."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))
    return encoded.tobytes()


def images_by_identity(folder: PathLike) -> Iterator[tuple[str, list[pathlib.Path]]]:
    """Yield name and images of each identity in a folder that holds one folder per identity, both in order of name.

    Names that start with a dot are skipped, and so is the list that `vargfacenet data align` leaves there. DataError for a
    folder that is missing or empty, an identity without image, or a file that is not an image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder of images {folder}{what_file_it_is(folder)}")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != NOT_ALIGNED)
    stray = next((path for path in entries if not path.is_dir()), None)
    if stray is not None or not entries:
        found = f"the file {stray.name}" if stray is not None else "nothing"
        raise DataError(f"{folder} must hold one folder of images for each identity; it holds {found}")
    for identity in entries:
        images = sorted(path for path in identity.iterdir() if not path.name.startswith("."))
        if not images:
            raise DataError(f"{identity} holds no image: an identity needs at least one; remove the folder or fill it")
        wrong = next((path for path in images if path.suffix.lower() not in SUFFIXES), None)
        if wrong is not None:
            raise DataError(f"{wrong} is not an image: expected {', '.join(SUFFIXES)}; move it elsewhere")
        yield identity.name, images
