"""Protocol of the Lightweight Face Recognition Challenge of 2019: features of image lists, and their score.

Features are L2-normalised sums of the embeddings of image and mirror. The score is what the challenge calls the TPR at
FPR = 1e-8: the TAR at that FAR over all pairs.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.cache import EmbeddingCache, file_fingerprint
from vargfacenet.eval.embed import ImageEmbedder
from vargfacenet.eval.features import read_features, write_features
from vargfacenet.eval.image_list import read_image_list
from vargfacenet.eval.plausible import warn_without_spread
from vargfacenet.eval.protocols.all_pairs import CHALLENGE_FAR, DISTRACTOR, AllPairs, score_all_pairs
from vargfacenet.eval.protocols.normalize import l2_normalize
from vargfacenet.formats.arrays import FileRows
from vargfacenet.formats.images import decode_image, read_image

_BLOCK = 4096  # rows at a time
_SAMPLE = 512  # rows that are looked at for whether they differ


class FeatureShape(NamedTuple):
    """Size of a feature file."""

    rows: int
    columns: int


def write_list_features(
    cache: EmbeddingCache,
    embedder: ImageEmbedder,
    network: str,
    image_list: str | os.PathLike[str],
    root: pathlib.Path,
    out: str | os.PathLike[str],
    *,
    progress: Callable[[int], object] | None = None,
) -> FeatureShape:
    """Embed the 112x112 images of a list and write their features; after an interruption, no image is embedded twice.

    Parameters
    ----------
    cache
        Stores the embeddings.
    embedder, network
        The network, and its fingerprint in the cache.
    image_list
        See `read_image_list`; labels are ignored.
    root
        Folder that the paths in the list are relative to.
    out
        The feature file.
    progress
        Called with the number of images done since the last call.

    Raises
    ------
    DataError
        If an image is missing, cannot be decoded or has another size, naming the first; or the file cannot be written.
    """
    paths = [root / path for path in read_image_list(image_list).paths]

    def read(place: int) -> np.ndarray:
        return decode_image(read_image(paths[place]), str(paths[place]))

    images = file_fingerprint(paths)
    plain, mirrored = cache.embed(embedder, network, images, len(paths), read, progress=progress)

    def blocks() -> Iterator[np.ndarray]:
        for begin in range(0, len(paths), _BLOCK):
            yield l2_normalize(plain[begin : begin + _BLOCK] + mirrored[begin : begin + _BLOCK])

    return FeatureShape(len(paths), write_features(out, blocks(), len(paths)))


def score_features(
    features: str | os.PathLike[str],
    image_list: str | os.PathLike[str],
    others: str | os.PathLike[str] | None = None,
    other_list: str | os.PathLike[str] | None = None,
    *,
    fars: Sequence[float] = (CHALLENGE_FAR,),
    worst: int = 10,
    progress: Callable[[int], object] | None = None,
) -> AllPairs:
    """Score all pairs of the features of a labelled list, or all pairs across two lists.

    Parameters
    ----------
    features, image_list
        A feature file and its list.
    others, other_list
        The second feature file and its list.
    fars, worst, progress
        See `score_all_pairs`.
    """
    rows, labels = _labelled(features, image_list)
    other_rows = other_labels = None
    if others is not None and other_list is not None:
        other_rows, other_labels = _labelled(others, other_list)
    elif others is not None or other_list is not None:
        raise DataError("a second feature file needs its list, and a second list its feature file")
    if all((known == DISTRACTOR).all() for known in (labels, other_labels) if known is not None):
        raise DataError(f"{image_list} has no label: give 'PATH LABEL' for each face of a known identity")
    warn_without_spread(rows[np.unique(np.linspace(0, len(rows) - 1, _SAMPLE).astype(int))])
    return score_all_pairs(rows, labels, other_rows, other_labels, fars=fars, worst=worst, progress=progress)


def count_pairs(features: str | os.PathLike[str], others: str | os.PathLike[str] | None = None) -> int:
    """Return the number of pairs that `score_features` scores."""
    rows = len(read_features(features))
    return rows * len(read_features(others)) if others else rows * (rows - 1) // 2


def _labelled(features: str | os.PathLike[str], image_list: str | os.PathLike[str]) -> tuple[FileRows, np.ndarray]:
    rows, listed = read_features(features), read_image_list(image_list)
    if len(rows) != len(listed.paths):
        raise DataError(
            f"{features} has {len(rows)} rows, {image_list} lists {len(listed.paths)} images; give the list that the "
            "features were made from"
        )
    return rows, listed.labels
