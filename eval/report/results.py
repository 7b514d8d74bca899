"""Results that a report shows."""

from __future__ import annotations

from typing import NamedTuple

from vargfacenet.eval.protocols.detail import Detail


class Result(NamedTuple):
    """Rates of a network on a verification set."""

    network: str
    about: str  # more about the network
    set: str
    detail: Detail


class ShownPair(NamedTuple):
    """A pair of encoded images."""

    number: int
    images: tuple[bytes, bytes]
    score: float
    is_wrong: bool


class ShownImage(NamedTuple):
    """An encoded image."""

    number: int
    image: bytes
    norm: float  # L2 norm of its embedding
    sharpness: float


class Gallery(NamedTuple):
    """Images of a verification set, chosen by the scores of a network."""

    accepts: list[ShownPair]  # most similar pairs of different identities
    rejects: list[ShownPair]  # least similar pairs of one identity
    shortest: list[ShownImage]  # images with the smallest norms
    correlation: float  # Spearman's rank correlation of norm and sharpness


class Section(NamedTuple):
    """A verification set in a report."""

    name: str
    details: dict[str, Detail]  # by network
    figures: dict[str, bytes]  # PNG, by name
    galleries: dict[str, Gallery]  # by network
