"""Labeled Faces in the Wild (Huang et al., 2007), downloaded by scikit-learn, in full size and aligned."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from vargfacenet.alignment import align_face
from vargfacenet.data.align import align_file, in_threads
from vargfacenet.errors import DataError
from vargfacenet.formats.images import decode_image, encode_jpeg, read_image


class LfwFiles(NamedTuple):
    """Files of LFW: the folder that holds ``NAME/NAME_0001.jpg``, and ``pairs.txt``."""

    images: pathlib.Path
    pairs_file: pathlib.Path


class AlignedFaces(NamedTuple):
    """Result of aligning images: the JPEG of each path, and the paths aligned by the other images with the reason."""

    faces: dict[pathlib.Path, bytes]
    fallbacks: list[tuple[pathlib.Path, str]]


def fetch_lfw(home: str | os.PathLike[str] | None = None, *, download: bool = True) -> LfwFiles:
    """Return LFW's funneled images and list of pairs; download them (some 200 MB) if they are missing.

    Parameters
    ----------
    home
        scikit-learn's data folder; by default its own, ``~/scikit_learn_data`` or the value of SCIKIT_LEARN_DATA.
    download
        Allow the download.

    Raises
    ------
    DataError
        If the files are missing and cannot be, or must not be, downloaded.
    """
    # Imported here because it takes a second, and aligning does not need it.
    from sklearn.datasets import fetch_lfw_pairs, get_data_home

    folder = pathlib.Path(get_data_home(home)) / "lfw_home"
    images, pairs_file = folder / "lfw_funneled", folder / "pairs.txt"
    missing = next((path for path in (images, pairs_file) if not path.exists()), None)
    if missing is None:
        return LfwFiles(images, pairs_file)
    if not download:
        raise DataError(
            f"{missing} is missing: omit --offline to download it, or put LFW's lfw-funneled.tgz, unpacked, and "
            f"pairs.txt into {folder}"
        )
    try:
        # This downloads and unpacks everything; the arrays that it also makes are kept tiny.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # one per retry
            fetch_lfw_pairs(subset="test", data_home=home, resize=0.05)
    except OSError as error:  # includes urllib's errors
        reason = str(getattr(error, "reason", error)).strip("<>")
        raise DataError(
            f"LFW cannot be downloaded ({reason}): on a connected machine run the same command, then copy {folder} here; "
            "or give the scikit-learn data folder that has it by --home"
        ) from error
    return LfwFiles(images, pairs_file)


def align_all(
    paths: list[pathlib.Path],
    find_points: Callable[[pathlib.Path, np.ndarray], np.ndarray],
    *,
    progress: Callable[[list[pathlib.Path]], Iterable[pathlib.Path]] | None = None,
) -> AlignedFaces:
    """Align images that are framed alike, each with a face, to 112x112 JPEGs.

    An image without detected points is aligned by the median of the points in the other images, relative to the width
    and height of the image: in LFW, faces are in the centre.

    Parameters
    ----------
    paths
        Distinct paths.
    find_points
        Returns the points, float (5, 2), of a path and an image, or raises DataError; called from several threads.
    progress
        Wraps the list, as tqdm does.

    Raises
    ------
    DataError
        If a file is not an image, or no face is found in any image.
    """
    relative: dict[pathlib.Path, np.ndarray] = {}

    def find(path: pathlib.Path, image: np.ndarray) -> np.ndarray:
        points = find_points(path, image)
        relative[path] = points / image.shape[1::-1]
        return points

    def align(path: pathlib.Path) -> bytes | str:
        try:
            return encode_jpeg(align_file(path, lambda image: find(path, image)))
        except DataError as error:
            return str(error)

    faces: dict[pathlib.Path, bytes] = {}
    fallbacks: list[tuple[pathlib.Path, str]] = []
    for path, outcome in zip(paths, in_threads(align, progress(paths) if progress else paths)):
        if isinstance(outcome, str):
            fallbacks.append((path, outcome))
        else:
            faces[path] = outcome
    if not faces:
        raise DataError(f"none of {len(paths)} images can be aligned; {paths[0]}: {fallbacks[0][1]}")
    median = np.median(np.array(list(relative.values())), axis=0)
    for path, _ in fallbacks:
        image = decode_image(read_image(path), str(path), shape=None)
        faces[path] = encode_jpeg(align_face(image, median * image.shape[1::-1]))
    return AlignedFaces(faces, fallbacks)
