"""Verification: sets of pairs, their embeddings, and the protocol that scores them."""

from __future__ import annotations

from collections.abc import Callable

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


def verify_pairs(
    embedder: ImageEmbedder, pairs: Pairs, *, progress: Callable[[int], object] | None = None
) -> Verification:
    """Embed a verification set and score it; `progress` is called with the number of images done since the last call."""
    embeddings, mirrored = embedder.embed(pairs.images, progress=progress)
    return verify_embeddings(embeddings, mirrored, pairs.is_same)
