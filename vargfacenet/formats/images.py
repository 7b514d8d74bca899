"""Encoded images in and out, the same way everywhere."""

import os
import pathlib
import sys
import tempfile

import cv2
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.formats.files import read_bytes
from vargfacenet.formats.image_headers import image_form, is_whole_png, jpeg_end, webp_orientation

NOT_ALIGNED = "not-aligned.txt"  # beside folders of images: which could not be aligned, and why
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
JPEG_QUALITY = 95
MOST_PIXELS = 40_000_000
MOST_BYTES = 64 << 20  # of an image's file
MOST_SCANS = 64  # of a progressive JPEG; encoders make about ten, and each is a pass over the whole image
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def read_image(path):
    """The bytes of an image's file; DataError where it cannot be read, or has more than `MOST_BYTES`."""
    return read_bytes(path, limit=MOST_BYTES)


def decode_image(encoded, where, *, shape=IMAGE_SHAPE[1:], plain=False):
    """Decodes an image, whose header is looked at first: nothing is made of a size that is not wanted.

    Parameters
    ----------
    encoded : bytes
        JPEG, PNG, BMP or WebP.
    where : str
        What the image is, for the error.
    shape : tuple of 2 int, optional
        Height and width it must have; None for any of up to `MOST_PIXELS`.
    plain : bool
        Whether to refuse what would lose something on the way to RGB of 8 bits: alpha, CMYK, 16 bits.

    Returns
    -------
    uint8 array (height, width, 3)
        RGB; of a grey image, three equal channels. It is turned as its EXIF data say.

    Raises
    ------
    DataError
        Where the bytes are no image, a JPEG without its end, or an image of another form.
    """
    form = image_form(encoded)
    if form is None:
        raise DataError(f"{where}: {len(encoded)} bytes that are no image: no JPEG, PNG, BMP or WebP")
    if form.height * form.width > MOST_PIXELS:
        raise DataError(
            f"{where} is {form.width}x{form.height}, {form.height * form.width / 1e6:.1f} megapixels; at most "
            f"{MOST_PIXELS // 10**6} are taken: make it smaller first"
        )
    # A camera may have left word to turn the image.
    if shape is not None and (form.height, form.width) not in (tuple(shape), tuple(shape)[::-1]):
        raise _wrong_size(where, (form.height, form.width), shape)
    if plain and (form.channels not in (1, 3) or form.bits > 8):
        raise DataError(
            f"{where} is a {form.kind} of {form.channels} channels of {form.bits} bits, expected RGB of 8 bits: convert it"
        )
    if form.kind == "JPEG":
        encoded = encoded[: jpeg_end(encoded)]  # phones write a video behind the image
    if is_cut(encoded):
        raise DataError(f"{where} is a JPEG that is cut before its end")
    if form.kind == "PNG" and not is_whole_png(encoded):
        raise DataError(f"{where}: {len(encoded)} bytes that are no image: a PNG that is cut, damaged or animated")
    # Of a small image in a small file, scans cannot be enough to matter.
    is_large = shape is None or len(encoded) > 1 << 16
    if form.kind == "JPEG" and is_large and encoded.count(_JPEG_SCAN) > MOST_SCANS:
        raise DataError(f"{where} is a JPEG of more than {MOST_SCANS} scans, which would take very long to decode")
    # OpenCV turns JPEG and PNG, and WebP only in some versions.
    turns = cv2.IMREAD_IGNORE_ORIENTATION if form.kind == "WebP" else 0
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR | turns)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{where}: {len(encoded)} bytes that are no image OpenCV can read")
    if form.kind == "WebP":
        image = _TURNS[webp_orientation(encoded)](image)
    if shape is not None and image.shape[:2] != tuple(shape):
        raise _wrong_size(where, image.shape, shape)
    return image[:, :, ::-1]


# What brings an image of each EXIF orientation upright.
_TURNS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}


def _wrong_size(where, found, shape):
    return DataError(
        f"{where} is {found[1]}x{found[0]} pixels, expected an aligned face of {shape[1]}x{shape[0]}: "
        "align it first (--align, or 'vargfacenet data align')"
    )


class DecoderRemarks:
    """Hears what libjpeg has to say of damage that it decodes all the same: it tells standard error, and no caller.

    While it listens, what else the process writes there is heard too: for one thread, at a time when no other one works.
    """

    def __init__(self):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the object lives

    def listen(self, function, *arguments):
        """Calls a function: what it gives, and the first remark (str; None where there was none)."""
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        try:
            value = function(*arguments)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            self._file.seek(0)
            said = self._file.read(1 << 16).decode("utf-8", errors="replace").splitlines()
            self._file.seek(0)
            self._file.truncate()
        return value, next((line.strip() for line in said if "JPEG" in line), None)


def is_cut(encoded):
    """Whether a JPEG lacks its end, which OpenCV decodes to a half-grey image without a word.

    Bytes behind the end, such as a phone's video, do not count. Damage between beginning and end cannot be told from content.
    """
    if not encoded.startswith(_JPEG_START) or encoded.endswith(_JPEG_END):
        return False
    if jpeg_end(encoded) is not None:
        return False
    # The last scan: a camera's small copy of the image, in the header, has a beginning and an end of its own.
    return encoded.find(_JPEG_END, encoded.rfind(_JPEG_SCAN)) < 0


def encode_jpeg(image, *, quality=JPEG_QUALITY):
    """A uint8 array (height, width, 3), RGB, as JPEG bytes."""
    done, encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"an image of shape {image.shape} cannot be encoded")
    return encoded.tobytes()


def as_face_jpeg(encoded, where, *, resize=False):
    """An image file's bytes as a 112x112 JPEG; one that already is, is not encoded again.

    Raises
    ------
    DataError
        Where it is no image, is cut, or has another size and `resize` is not set.
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
    is_plain = encoded.startswith(_JPEG_START) and image_form(encoded).channels != 4
    return encoded[: jpeg_end(encoded)] if is_plain else encode_jpeg(image)


def encode_png(image):
    """A uint8 array (height, width, 3), RGB, as PNG bytes."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))
    return encoded.tobytes()


def images_by_person(folder):
    """The image files of a folder that holds one folder for each person.

    Folders are taken in the order of their names; names that start with a dot are passed over, and so is the list that
    `vargfacenet data align` leaves beside them.

    Parameters
    ----------
    folder : str or path
        The folder of folders.

    Yields
    ------
    str, list of path
        The name of a person's folder, and the images in it, in the order of their names.

    Raises
    ------
    DataError
        For a folder that is missing or holds no person, a person without image, or a file that is no image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder of images {folder}")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != NOT_ALIGNED)
    stray = next((path for path in entries if not path.is_dir()), None)
    if stray is not None or not entries:
        found = f"the file {stray.name}" if stray is not None else "nothing"
        raise DataError(f"{folder} must hold one folder of images for each identity; it holds {found}")
    for person in entries:
        images = sorted(path for path in person.iterdir() if not path.name.startswith("."))
        if not images:
            raise DataError(f"{person} holds no image: an identity needs at least one; remove the folder or fill it")
        wrong = next((path for path in images if path.suffix.lower() not in SUFFIXES), None)
        if wrong is not None:
            raise DataError(f"{wrong} is no image: expected {', '.join(SUFFIXES)}; move it elsewhere")
        yield person.name, images
