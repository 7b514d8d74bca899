"""Verification: sets of pairs, embeddings of them, and the protocol that scores them."""

from vargfacenet.eval.embed import Embedder, ImageEmbedder
from vargfacenet.eval.pairs import Pairs, read_pairs, read_sets, write_pairs
from vargfacenet.eval.protocols.verification import Verification, verify_embeddings

__all__ = [
    "Embedder",
    "ImageEmbedder",
    "Pairs",
    "Verification",
    "read_pairs",
    "read_sets",
    "verify_embeddings",
    "verify_pairs",
    "write_pairs",
]


def verify_pairs(embedder, pairs, *, progress=None):
    """Embeds a verification set and scores it.

    Parameters
    ----------
    embedder : Embedder
        The network.
    pairs : Pairs
        The set.
    progress : callable, optional
        Called with the number of images done since the last call.

    Returns
    -------
    Verification
    """
    embeddings, mirrored = embedder.embed(pairs.images, progress=progress)
    return verify_embeddings(embeddings, mirrored, pairs.is_same)
