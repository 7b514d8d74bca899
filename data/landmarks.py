"""Reader of files that list the five points of the face in each photograph."""

from __future__ import annotations

import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.files import listed_path, read_lines
from vargfacenet.point_order import check_point_order

_FIELD = re.compile(r"[^\s,;]+")
_HEADER_LINES = 2


class Landmarks(NamedTuple):
    """Points of a face, float (5, 2), in pixels, and the line that lists them."""

    points: np.ndarray
    line: int


def read_landmarks(path: str | os.PathLike[str]) -> dict[str, Landmarks]:
    """Read the landmarks of each image from a UTF-8 file.

    A line holds the path of an image, relative to the folder of images, with ``/`` or ``\\`` between folders, and ten numbers:
    x and y of left eye, right eye, nose, left and right corner of the mouth, in pixels; left is the left of the image.
    They are separated by blanks, tabs, commas or semicolons. A path may contain blanks and may be quoted. Empty lines and
    lines that start with ``#`` are skipped, and before the first image also a header and a line with the number of
    images, as in CelebA's ``list_landmarks_celeba.txt``; that number is checked.

    Raises
    ------
    DataError
        If a line is malformed, leads out of the folder or repeats a path, naming the line; if the number of images differs
        from the announced one; if most faces have left and right swapped, or their points in another order.
    """
    found: dict[str, Landmarks] = {}
    announced: int | None = None
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
            raise DataError(f"{where}: {name} is in line {found[name].line} already; keep one face per image")
        found[name] = Landmarks(points, number)
    if not found:
        raise DataError(f"{path} lists no image: expected lines 'PATH x1 y1 x2 y2 x3 y3 x4 y4 x5 y5'")
    if announced not in (None, len(found)):
        raise DataError(f"{path} announces {announced} images and lists {len(found)}: it may be cut")
    check_point_order([landmarks.points for landmarks in found.values()], path)
    return found


def _parsed(line: str, fields: list[re.Match[str]], where: str) -> tuple[str, np.ndarray]:
    numbers = [_number(field.group()) for field in fields[-10:]]
    name = line[: fields[-10].start()].strip(" \t,;").strip("\"'") if len(fields) > 10 else ""
    if not name or None in numbers:
        given = line.strip()
        raise DataError(
            f"{where} reads {given[:60]!r}{'...' if len(given) > 60 else ''}, expected a path and ten finite numbers"
        )
    name = listed_path(name)
    parts = pathlib.PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        raise DataError(f"{where}: {name} leads out of the folder of images; give a path relative to it")
    return "/".join(parts), np.array(numbers).reshape(5, 2)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
