"""All pairs across two feature files: their rates by this package, or the matrix product alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vargfacenet.eval.features import read_features
from vargfacenet.eval.protocols.all_pairs import score_all_pairs


def prepare(
    *, features: str, others: str, identities: int, far: float, product: bool = False
) -> Callable[[], dict[str, Any]]:
    """Open two feature files; row i of either belongs to identity i modulo `identities`."""
    first, second = read_features(features), read_features(others)
    labels, other_labels = (np.arange(len(rows)) % identities for rows in (first, second))
    items = len(first) * len(second)

    def multiply() -> dict[str, Any]:
        across = np.ascontiguousarray(second[:].T)
        for begin in range(0, len(first), 1024):
            block = first[begin : begin + 1024] @ across
        return {"items": items, "last": float(block[-1, -1])}

    def turn() -> dict[str, Any]:
        (rate,) = score_all_pairs(first, labels, second, other_labels, fars=(far,)).rates
        return {"items": items, "tar": rate.tar, "accepted_different": rate.accepted_different}

    return multiply if product else turn
