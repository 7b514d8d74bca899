"""Encoded pictures in and out, the same way everywhere."""

import pathlib

import cv2
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
JPEG_QUALITY = 95
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def decode_picture(encoded, where, *, shape=IMAGE_SHAPE[1:]):
    """Decodes a picture.

    Parameters
    ----------
    encoded : bytes
        JPEG, PNG or another format that OpenCV reads.
    where : str
        What the picture is, for the error.
    shape : tuple of 2 int, optional
        Height and width it must have; None for any.

    Returns
    -------
    uint8 array (height, width, 3)
        RGB.

    Raises
    ------
    DataError
        Where the bytes are no picture, or one of another shape.
    """
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if len(encoded) else None
    except cv2.error:  # of sizes that OpenCV takes for an attack
        picture = None
    if picture is None:
        fault = "a JPEG cut before its end" if is_cut(encoded) else "no picture OpenCV can read"
        raise DataError(f"{where}: {len(encoded)} bytes that are {fault}")
    if shape is not None and picture.shape[:2] != tuple(shape):
        raise DataError(
            f"{where} is {picture.shape[1]}x{picture.shape[0]} pixels, expected an aligned face of {shape[1]}x{shape[0]}"
        )
    return picture[:, :, ::-1]


def is_cut(encoded):
    """Whether a JPEG lacks its end, which OpenCV decodes to a half-grey picture without a word.

    Damage between beginning and end cannot be told from content.
    """
    return encoded.startswith(_JPEG_START) and encoded.find(_JPEG_END, encoded.find(_JPEG_SCAN)) < 0


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
    if is_cut(encoded):
        raise DataError(f"{where} is a JPEG that is cut before its end")
    height, width = IMAGE_SHAPE[1:]
    picture = decode_picture(encoded, where, shape=None)
    if picture.shape[:2] != (height, width):
        if not resize:
            raise DataError(
                f"{where} is {picture.shape[1]}x{picture.shape[0]} pixels, expected an aligned face of {width}x{height}; "
                "align it first, or give --resize to scale it as it is"
            )
        return encode_jpeg(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    return encoded if encoded.startswith(_JPEG_START) else encode_jpeg(picture)


def encode_png(picture):
    """A uint8 array (height, width, 3), RGB, as PNG bytes."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    return encoded.tobytes()


def pictures_by_person(folder):
    """The picture files of a folder that holds one folder for each person.

    Folders are taken in the order of their names; names that start with a dot are passed over.

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
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
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
