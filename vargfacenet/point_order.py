"""Check the order of the five points of a face: files of other tools may have another order, which distorts every face."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from vargfacenet.alignment import TEMPLATE
from vargfacenet.errors import DataError

log = logging.getLogger(__name__)

_NAMES = ("left eye", "right eye", "nose", "left corner of the mouth", "right corner of the mouth")
_MIRRORED = "right eye, left eye, nose, right corner of the mouth, left corner of the mouth"
_BAD = 12.0  # pixels, root mean square distance from the template: more than heads turned by up to 70 degrees have
_WORST = 16.0  # more than any face has, even in full profile
_MOST = 512  # faces that are checked
_EXPECTED = "x and y of left eye, right eye, nose, left and right corner of the mouth, left as seen in the image"


def fit_errors(points: Any) -> np.ndarray:
    """Return the distance of five points from the template after the best similarity, in pixels (root mean square).

    (..., 5, 2) -> (...).
    """
    z, w = np.asarray(points, np.float64) @ (1.0, 1.0j), TEMPLATE.astype(np.float64) @ (1.0, 1.0j)
    z, w = z - z.mean(axis=-1, keepdims=True), w - w.mean()
    spread = np.square(np.abs(z)).sum(axis=-1)
    shared = np.square(np.abs((z.conj() * w).sum(axis=-1))) / np.where(spread == 0, 1, spread)
    return np.sqrt((np.square(np.abs(w)).sum() - shared).clip(0) / len(w))


def check_point_order(points: Any, where: object) -> None:
    """Refuse points in another order than that of `TEMPLATE`.

    Parameters
    ----------
    points
        Five points of each face, (n, 5, 2).
    where
        Name of the file they come from, for the error.

    Raises
    ------
    DataError
        Where more than half of the faces fit the template badly, and either another order fits clearly better, which it
        names, or they fit worse than faces in profile do.
    """
    faces = np.asarray(points, np.float64)
    if len(faces) and np.abs(faces).max() <= 1:
        raise DataError(
            f"{where} has points as fractions of the image, 0 .. 1: expected pixels; multiply by width and height"
        )
    faces = faces[:: max(1, len(faces) // _MOST)]
    given = fit_errors(faces)
    bad = int((given > _BAD).sum())
    if bad <= len(faces) / 2:
        return
    orders = [(name, fit_errors(form)) for name, form in _other_orders(faces)]
    best, errors = min(orders, key=lambda one: np.median(one[1]))
    fits = np.median(errors) < min(_BAD, np.median(given) / 1.5)
    if not fits and np.median(given) <= _WORST:
        log.warning(
            "%s: in %d of %d faces checked, the five points lie far from those of a frontal face; this is normal for "
            "faces in profile, otherwise check the points",
            where,
            bad,
            len(faces),
        )
        return
    likely = (
        f"{'left and right are swapped: ' if best == _MIRRORED else ''}the likely order is {best}; " if fits else ""
    )
    raise DataError(
        f"{where}: in {bad} of {len(faces)} faces checked, the five points do not lie as those of a face: {likely}"
        f"expected {_EXPECTED}"
    )


def _other_orders(faces: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and points of other orders: permutations of the points, and all x before all y."""
    yield "x1 .. x5 y1 .. y5", faces.reshape(len(faces), 2, 5).transpose(0, 2, 1)
    for order in itertools.permutations(range(5)):
        if order != tuple(range(5)):
            # Point order[i] of the list is the template's point i.
            names = [_NAMES[order.index(place)] for place in range(5)]
            yield ", ".join(names), faces[:, order]
