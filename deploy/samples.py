"""Images to calibrate on, from a folder or a record file."""

import contextlib
import pathlib
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import RecordSet
from vargfacenet.errors import DataError
from vargfacenet.formats.files import files_below
from vargfacenet.formats.images import SUFFIXES, decode_image, read_image


def sample_images(path: Union[str, pathlib.Path], count: int) -> np.ndarray:
    """Return up to `count` images, evenly from the whole set, in a mixed order that is always the same.

    Parameters
    ----------
    path
        A folder with aligned 112x112 images in it or its sub-folders, a training set, or its ``.rec`` file.

    Returns
    -------
    float32 array (n, 3, 112, 112), RGB, 0..255.

    Raises
    ------
    DataError
        Where there are fewer than 16, or one is damaged or of another size.
    """
    path = pathlib.Path(path)
    if path.suffix == ".rec" or (path / "train.rec").is_file():
        with contextlib.closing(RecordSet(path)) as records:
            records.check_size(*IMAGE_SHAPE[1:])
            images = [records.read_face(key)[0] for key in _spread(list(records.keys), count)]
    elif path.is_dir():
        files = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]
        images = [decode_image(read_image(file), str(file)) for file in _spread(files, count)]
    else:
        raise DataError(f"{path} is neither a folder of images nor a .rec file")
    if len(images) < LEAST:
        raise DataError(f"{path} has {len(images)} images; calibration needs at least {LEAST}")
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)


LEAST = 16


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    if not items:
        return []
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    return [items[place] for place in np.random.RandomState(0).permutation(places)]
