"""Pictures to calibrate on, from a folder or a record file."""

import contextlib
import pathlib

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import RecordSet
from vargfacenet.errors import DataError
from vargfacenet.formats.files import files_below
from vargfacenet.formats.images import SUFFIXES, decode_picture, read_picture


def sample_pictures(path, count):
    """Up to `count` pictures, spread evenly over what there is, in an order that mixes them and is always the same.

    Parameters
    ----------
    path : path
        A folder with aligned 112x112 pictures in it or below, a training set, or its ``.rec`` file.
    count : int
        How many.

    Returns
    -------
    float32 array (n, 3, 112, 112)
        RGB, 0..255.

    Raises
    ------
    DataError
        Where there are fewer than 16, or one is damaged or of another size.
    """
    path = pathlib.Path(path)
    if path.suffix == ".rec" or (path / "train.rec").is_file():
        with contextlib.closing(RecordSet(path)) as records:
            records.check_size(*IMAGE_SHAPE[1:])
            pictures = [records.read_face(key)[0] for key in _spread(list(records.keys), count)]
    elif path.is_dir():
        files = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]
        pictures = [decode_picture(read_picture(file), str(file)) for file in _spread(files, count)]
    else:
        raise DataError(f"{path} is neither a folder of pictures nor a .rec file")
    if len(pictures) < LEAST:
        raise DataError(f"{path} has {len(pictures)} pictures; calibration takes at least {LEAST}")
    return np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)


LEAST = 16


def _spread(items, count):
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)) if items else []
    return [items[place] for place in np.random.RandomState(0).permutation(places)]
