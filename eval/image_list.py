"""Image lists: an image's path a line, and whose face it is where that is known."""

import collections

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.protocols.most_alike import NOBODY
from vargfacenet.formats.files import read_lines

ImageList = collections.namedtuple("ImageList", "paths labels")
ImageList.__doc__ = """Images (list of str) and whose they are (int64 array; `NOBODY` where no label is given, as of a
distractor)."""


def read_image_list(path):
    """Reads an image list.

    A line is ``PATH`` or ``PATH LABEL``, a tab or the last blank between them; a label is a whole number from 0 on, or -1
    for a face that is nobody's. Empty lines are passed over.

    Parameters
    ----------
    path : str or path
        The list, UTF-8.

    Returns
    -------
    ImageList

    Raises
    ------
    DataError
        As of `read_lines`, where it lists nothing, or naming the line, where a label is none or some lines have one and
        others not.
    """
    paths, labels, labelled = [], [], None
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
                f"{'one' if labelled else 'none'}; give -1 for a face that is nobody's"
            )
        paths.append(image)
        labels.append(NOBODY if label is None else label)
    if not paths:
        raise DataError(f"{path} lists no image")
    return ImageList(paths, np.array(labels, np.int64))


def _parse(line, where):
    image, separator, label = line.rpartition("\t" if "\t" in line else " ")
    if not separator:
        return line, None
    if label.lstrip("-").isdecimal() and len(label) < 19 and int(label) >= NOBODY:
        return image.strip(), int(label)
    if "\t" in line or label.lstrip("+-").replace(".", "", 1).isdigit():
        raise DataError(f"{where}: label {label[:40]!r}, expected a whole number from 0 on, or -1 for nobody's")
    return line, None  # a path with blanks in it
