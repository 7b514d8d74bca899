"""Files that list the five points of the face in each photograph."""

import pathlib
import re

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.files import read_lines
from vargfacenet.point_order import check_point_order

_FIELD = re.compile(r"[^\s,;]+")
_HEADER_LINES = 2


def read_landmarks(path):
    """Reads a file of landmarks.

    A line holds an image's path, relative to the folder of images and with ``/`` between folders, and ten numbers:
    x and y of left eye, right eye, nose, left and right corner of the mouth, left as one sees it, in pixels. Blanks, tabs,
    commas or semicolons stand between them; a path may hold blanks, and may stand in quotes. Empty lines and lines that
    start with ``#`` are passed over, and so are a header and a line with the number of images before the first image,
    as in CelebA's ``list_landmarks_celeba.txt``; that number is checked.

    Parameters
    ----------
    path : str or path
        The file, UTF-8.

    Returns
    -------
    dict of str to (float array (5, 2), int)
        Points of each path, and the line they are from.

    Raises
    ------
    DataError
        Naming the line, for what is neither, a path outside the folder, or one that comes twice; where there are not as many
        images as announced; and where most faces have left and right swapped, or their points in another order.
    """
    found, announced = {}, None
    for number, line in read_lines(path):
        where, fields = f"{path}: line {number}", list(_FIELD.finditer(line))
        if not fields or line.lstrip().startswith("#"):
            continue
        if not found and number <= _HEADER_LINES:
            if len(fields) == 1 and fields[0].group().isdecimal():
                announced = int(fields[0].group())
                continue
            if not any(_number(field.group()) is not None for field in fields):
                continue
        name, points = _parsed(line, fields, where)
        if name in found:
            raise DataError(f"{where}: {name} already has line {found[name][1]}; keep one face an image")
        found[name] = points, number
    if not found:
        raise DataError(f"{path} lists no image: expected lines 'PATH x1 y1 x2 y2 x3 y3 x4 y4 x5 y5'")
    if announced not in (None, len(found)):
        raise DataError(f"{path} announces {announced} images and lists {len(found)}: it may be cut")
    check_point_order([points for points, _ in found.values()], path)
    return found


def _parsed(line, fields, where):
    numbers = [_number(field.group()) for field in fields[-10:]]
    name = line[: fields[-10].start()].strip(" \t,;").strip("\"'") if len(fields) > 10 else ""
    if not name or None in numbers:
        given = line.strip()
        raise DataError(
            f"{where} reads {given[:60]!r}{'...' if len(given) > 60 else ''}, expected a path and ten finite numbers"
        )
    parts = pathlib.PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        raise DataError(f"{where}: {name} leads out of the folder of images; give a path relative to it")
    return "/".join(parts), np.array(numbers).reshape(5, 2)


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
