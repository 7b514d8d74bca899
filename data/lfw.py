"""Labeled Faces in the Wild (Huang et al., 2007) through scikit-learn's downloader, in full size and aligned."""

import pathlib
import warnings

import numpy as np

from vargfacenet.alignment import align_face
from vargfacenet.data.align import align_file, in_threads
from vargfacenet.errors import DataError
from vargfacenet.formats.images import decode_image, encode_jpeg, read_image


def fetch_lfw(home=None, *, download=True):
    """Where LFW's funneled images and its list of pairs are; downloaded (some 200 MB) where they are not there yet.

    Parameters
    ----------
    home : str or path, optional
        scikit-learn's data folder; by default its own, ``~/scikit_learn_data`` or what SCIKIT_LEARN_DATA names.
    download : bool
        Whether it may be downloaded.

    Returns
    -------
    tuple of 2 path
        The folder with ``NAME/NAME_0001.jpg`` and ``pairs.txt``.

    Raises
    ------
    DataError
        Where it is not there and cannot be, or must not be, downloaded.
    """
    from sklearn.datasets import fetch_lfw_pairs, get_data_home

    folder = pathlib.Path(get_data_home(home)) / "lfw_home"
    images, pairs_file = folder / "lfw_funneled", folder / "pairs.txt"
    missing = next((path for path in (images, pairs_file) if not path.exists()), None)
    if missing is None:
        return images, pairs_file
    if not download:
        raise DataError(
            f"{missing} is missing: leave --offline out to download it, or put LFW's lfw-funneled.tgz, unpacked, and "
            f"pairs.txt into {folder}"
        )
    try:
        # It downloads and unpacks everything; the arrays that it also makes are kept tiny.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of each try again
            fetch_lfw_pairs(subset="test", data_home=home, resize=0.05)
    except OSError as error:  # urllib's errors are of this kind
        reason = str(getattr(error, "reason", error)).strip("<>")
        raise DataError(
            f"LFW cannot be downloaded ({reason}): on a connected machine run the same command, then copy {folder} here; "
            "or give the scikit-learn data folder that has it by --home"
        ) from error
    return images, pairs_file


def align_all(paths, find_points, *, progress=None):
    """Aligned faces of images that are framed alike, each with a face.

    One whose points are not found is aligned by the median of those found in the others, each point in its share of the
    image's width and height: in LFW, faces stand in the middle.

    Parameters
    ----------
    paths : list of path
        Distinct.
    find_points : callable
        Of a path and an image: points (5, 2), or raises DataError. Called from several threads.
    progress : callable, optional
        Wraps the list, as tqdm does.

    Returns
    -------
    faces : dict of path to bytes
        112x112 JPEG of each.
    fallen_back : list of (path, str)
        Those aligned by the others' points, and why.

    Raises
    ------
    DataError
        For a file that is no image, and where no face is found in any.
    """
    shares = {}

    def find(path, image):
        points = find_points(path, image)
        shares[path] = points / image.shape[1::-1]
        return points

    def align(path):
        try:
            return encode_jpeg(align_file(path, lambda image: find(path, image)))
        except DataError as error:
            return str(error)

    outcomes = dict(zip(paths, in_threads(align, progress(paths) if progress else paths)))
    fallen_back = [(path, outcome) for path, outcome in outcomes.items() if isinstance(outcome, str)]
    if len(fallen_back) == len(paths):
        raise DataError(f"none of {len(paths)} images can be aligned; {paths[0]}: {fallen_back[0][1]}")
    middle = np.median(np.array(list(shares.values())), axis=0)
    for path, _ in fallen_back:
        image = decode_image(read_image(path), str(path), shape=None)
        outcomes[path] = encode_jpeg(align_face(image, middle * image.shape[1::-1]))
    return outcomes, fallen_back
