"""Image lists: the path of an image per line, and its label where that is known."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols.most_similar import DISTRACTOR
from vargfacenet.formats.files import listed_path, read_lines


class ImageList(NamedTuple):
    """Images and their labels."""

    paths: list[str]
    labels: np.ndarray  # int64; `DISTRACTOR` if there is no label


def read_image_list(path: str | os.PathLike[str]) -> ImageList:
    """Read an image list, UTF-8.

    A line is ``PATH`` or ``PATH LABEL``, separated by a tab or by the last blank. A label is a whole number from 0 on, or
    -1 for a distractor. Empty lines are skipped.

    Raises
    ------
    DataError
        If the file cannot be read or lists nothing; naming the line, if a label is malformed or only some lines have one.
    """
    paths: list[str] = []
    labels: list[int] = []
    labelled: bool | None = None
    for number, line in read_lines(path):
        line = line.strip()
        if not line:
            continue
        image, label = _parse(line, f"{path}: line {number}")
        if labelled is None:
            labelled = label is not None
        if labelled != (label is not None):
            raise DataError(
                f"{path}: line {number} has {'a' if label is not None else 'no'} label, the lines before it have "
                f"{'one' if labelled else 'none'}; give the label -1 for a distractor"
            )
        paths.append(listed_path(image))
        labels.append(DISTRACTOR if label is None else label)
    if not paths:
        raise DataError(f"{path} lists no image")
    return ImageList(paths, np.array(labels, np.int64))


def _parse(line: str, where: str) -> tuple[str, int | None]:
    image, separator, label = line.rpartition("\t" if "\t" in line else " ")
    if not separator:
        return line, None
    if label.lstrip("-").isdecimal() and len(label) < 19 and int(label) >= DISTRACTOR:
        return image.strip(), int(label)
    if "\t" in line or label.lstrip("+-").replace(".", "", 1).isdigit():
        raise DataError(f"{where}: label {label[:40]!r}, expected a whole number from 0 on, or -1 for a distractor")
    return line, None  # a path with blanks
