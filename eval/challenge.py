"""The protocol of the Lightweight Face Recognition Challenge of 2019: features of image lists, and what they say.

Features are embeddings of image and mirror added, at length 1; the score is the true positive rate at a false positive
rate of 1e-8 over all pairs.
"""

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.cache import file_fingerprint
from vargfacenet.eval.features import read_features, write_features
from vargfacenet.eval.image_list import read_image_list
from vargfacenet.eval.protocols.all_pairs import CHALLENGE_FAR, NOBODY, score_all_pairs
from vargfacenet.formats.images import decode_image, read_image

_BLOCK = 4096  # rows at a time


def write_list_features(cache, embedder, network, image_list, root, out, *, progress=None):
    """Embeds the images of a list and writes their features; a stop loses nothing that is embedded.

    Parameters
    ----------
    cache : EmbeddingCache
        Keeps embeddings meanwhile, and for the next protocol.
    embedder, network : ImageEmbedder, str
        What embeds, and what its embeddings are kept under.
    image_list : str or path
        As of `read_image_list`; labels are not looked at. Images are 112x112.
    root : path
        The folder that paths in the list start from.
    out : str or path
        The feature file.
    progress : callable, optional
        Called with the number of images done since the last call.

    Returns
    -------
    rows, columns : int
        Of the file.

    Raises
    ------
    DataError
        Naming the first image that is missing, none, or of another size; or the file that cannot be written.
    """
    paths = [root / path for path in read_image_list(image_list).paths]

    def read(place):
        return decode_image(read_image(paths[place]), str(paths[place]))

    images = file_fingerprint(paths)
    plain, mirrored = cache.embed(embedder, network, images, len(paths), read, progress=progress)

    def blocks():
        for begin in range(0, len(paths), _BLOCK):
            both = plain[begin : begin + _BLOCK] + mirrored[begin : begin + _BLOCK]
            lengths = np.linalg.norm(both, axis=1, keepdims=True)
            yield both / np.where(lengths == 0, 1, lengths)

    return len(paths), write_features(out, blocks(), len(paths))


def score_features(
    features, image_list, others=None, other_list=None, *, fars=(CHALLENGE_FAR,), worst=10, progress=None
):
    """All pairs of the features of a labelled list, or of two lists.

    Parameters
    ----------
    features, image_list : str or path
        A feature file and the list it is of.
    others, other_list : str or path, optional
        The second list's.
    fars, worst, progress
        As of `score_all_pairs`.

    Returns
    -------
    AllPairs
    """
    given = [_labelled(features, image_list)] + ([_labelled(others, other_list)] if others else [])
    if all((labels == NOBODY).all() for _, labels in given):
        raise DataError(f"{image_list} has no label: give 'PATH LABEL' for each face that is somebody's")
    return score_all_pairs(*(part for both in given for part in both), fars=fars, worst=worst, progress=progress)


def count_pairs(features, others=None):
    """How many pairs `score_features` looks at (int)."""
    rows = len(read_features(features))
    return rows * len(read_features(others)) if others else rows * (rows - 1) // 2


def _labelled(features, image_list):
    rows, listed = read_features(features), read_image_list(image_list)
    if len(rows) != len(listed.paths):
        raise DataError(
            f"{features} has {len(rows)} rows, {image_list} lists {len(listed.paths)} images; give its own list"
        )
    return rows, listed.labels
