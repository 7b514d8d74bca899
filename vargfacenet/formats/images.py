"""Encoded pictures in and out, the same way everywhere."""

import os
import pathlib
import sys
import tempfile

import cv2
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.formats.files import read_bytes
from vargfacenet.formats.image_headers import is_whole_png, jpeg_end, picture_form, webp_orientation

NOT_ALIGNED = "not-aligned.txt"  # beside folders of pictures: which could not be aligned, and why
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
JPEG_QUALITY = 95
MOST_PIXELS = 40_000_000
MOST_BYTES = 64 << 20  # of a picture's file
MOST_SCANS = 64  # of a progressive JPEG; encoders make about ten, and each is a pass over the whole picture
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def read_picture(path):
    """The bytes of a picture's file; DataError where it cannot be read, or has more than `MOST_BYTES`."""
    return read_bytes(path, limit=MOST_BYTES)


def decode_picture(encoded, where, *, shape=IMAGE_SHAPE[1:], plain=False):
    """Decodes a picture, whose header is looked at first: nothing is made of a size that is not wanted.

    Parameters
    ----------
    encoded : bytes
        JPEG, PNG, BMP or WebP.
    where : str
        What the picture is, for the error.
    shape : tuple of 2 int, optional
        Height and width it must have; None for any of up to `MOST_PIXELS`.
    plain : bool
        Whether to refuse what would lose something on the way to RGB of 8 bits: alpha, CMYK, 16 bits.

    Returns
    -------
    uint8 array (height, width, 3)
        RGB; of a grey picture, three equal channels. It is turned as its EXIF data say.

    Raises
    ------
    DataError
        Where the bytes are no picture, a JPEG without its end, or a picture of another form.
    """
    form = picture_form(encoded)
    if form is None:
        raise DataError(f"{where}: {len(encoded)} bytes that are no picture: no JPEG, PNG, BMP or WebP")
    if form.height * form.width > MOST_PIXELS:
        raise DataError(
            f"{where} is {form.width}x{form.height}, {form.height * form.width / 1e6:.1f} megapixels; at most "
            f"{MOST_PIXELS // 10**6} are taken: make it smaller first"
        )
    # A camera may have left word to turn the picture.
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
        raise DataError(f"{where}: {len(encoded)} bytes that are no picture: a PNG that is cut, damaged or animated")
    # Of a small picture in a small file, scans cannot be enough to matter.
    is_large = shape is None or len(encoded) > 1 << 16
    if form.kind == "JPEG" and is_large and encoded.count(_JPEG_SCAN) > MOST_SCANS:
        raise DataError(f"{where} is a JPEG of more than {MOST_SCANS} scans, which would take very long to decode")
    # OpenCV turns JPEG and PNG, and WebP only in some versions.
    turns = cv2.IMREAD_IGNORE_ORIENTATION if form.kind == "WebP" else 0
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR | turns)
    except cv2.error:
        picture = None
    if picture is None:
        raise DataError(f"{where}: {len(encoded)} bytes that are no picture OpenCV can read")
    if form.kind == "WebP":
        picture = _TURNS[webp_orientation(encoded)](picture)
    if shape is not None and picture.shape[:2] != tuple(shape):
        raise _wrong_size(where, picture.shape, shape)
    return picture[:, :, ::-1]


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
    """Whether a JPEG lacks its end, which OpenCV decodes to a half-grey picture without a word.

    Bytes behind the end, such as a phone's video, do not count. Damage between beginning and end cannot be told from content.
    """
    if not encoded.startswith(_JPEG_START) or encoded.endswith(_JPEG_END):
        return False
    if jpeg_end(encoded) is not None:
        return False
    # The last scan: a camera's small copy of the picture, in the header, has a beginning and an end of its own.
    return encoded.find(_JPEG_END, encoded.rfind(_JPEG_SCAN)) < 0


def encode_jpeg(picture, *, quality=JPEG_QUALITY):
    """A uint8 array (height, width, 3), RGB, as JPEG bytes."""
    done, encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"a picture of shape {picture.shape} cannot be encoded")
    return encoded.tobytes()


def as_face_jpeg(encoded, where, *, resize=False):
    """A picture file's bytes as a 112x112 JPEG; one that already is, is not encoded again.

    Raises
    ------
    DataError
        Where it is no picture, is cut, or has another size and `resize` is not set.
    """
    height, width = IMAGE_SHAPE[1:]
    picture = decode_picture(encoded, where, shape=None)
    if picture.shape[:2] != (height, width):
        if not resize:
            raise DataError(
                f"{where} is {picture.shape[1]}x{picture.shape[0]} pixels, expected an aligned face of {width}x{height}; "
                "align it first (vargfacenet data align), or give --resize to scale it as it is"
            )
        return encode_jpeg(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    is_plain = encoded.startswith(_JPEG_START) and picture_form(encoded).channels != 4
    return encoded[: jpeg_end(encoded)] if is_plain else encode_jpeg(picture)


def encode_png(picture):
    """A uint8 array (height, width, 3), RGB, as PNG bytes."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    return encoded.tobytes()


def pictures_by_person(folder):
    """The picture files of a folder that holds one folder for each person.

    Folders are taken in the order of their names; names that start with a dot are passed over, and so is the list that
    `vargfacenet data align` leaves beside them.

    Parameters
    ----------
    folder : str or path
        The folder of folders.

    Yields
    ------
    str, list of path
        The name of a person's folder, and the pictures in it, in the order of their names.

    Raises
    ------
    DataError
        For a folder that is missing or holds no person, a person without picture, or a file that is no picture.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder of images {folder}")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != NOT_ALIGNED)
    stray = next((path for path in entries if not path.is_dir()), None)
    if stray is not None or not entries:
        found = f"the file {stray.name}" if stray is not None else "nothing"
        raise DataError(f"{folder} must hold one folder of pictures for each identity; it holds {found}")
    for person in entries:
        pictures = sorted(path for path in person.iterdir() if not path.name.startswith("."))
        if not pictures:
            raise DataError(f"{person} holds no picture: an identity needs at least one; remove the folder or fill it")
        wrong = next((path for path in pictures if path.suffix.lower() not in SUFFIXES), None)
        if wrong is not None:
            raise DataError(f"{wrong} is no picture: expected {', '.join(SUFFIXES)}; move it elsewhere")
        yield person.name, pictures
