"""Writer of the folder of a report."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from vargfacenet import __version__
from vargfacenet.eval.pairs import Pairs
from vargfacenet.eval.protocols.detail import Detail
from vargfacenet.eval.quality import sharpness
from vargfacenet.eval.report.figures import draw_folds, draw_norms, draw_roc, draw_scores
from vargfacenet.eval.report.page import page
from vargfacenet.eval.report.results import Gallery, Result, Section, ShownImage, ShownPair
from vargfacenet.eval.report.table import markdown
from vargfacenet.formats.files import atomic_path, write_text
from vargfacenet.formats.images import decode_image

SHOWN = 8  # pairs of each kind, and images


def write_report(
    folder: str | os.PathLike[str],
    results: Sequence[Result],
    sets: Mapping[str, Pairs],
    *,
    progress: Callable[[], object] | None = None,
) -> pathlib.Path:
    """Write the self-contained ``index.html``, its figures as PNG, ``verification.json`` and ``verification.md``.

    Returns the path of the page.

    Parameters
    ----------
    folder
        Output folder; created if missing.
    results
        Of each network on each set.
    sets
        The verification sets by name.
    progress
        Called after each set.

    Raises
    ------
    DataError
        If a file cannot be written, or an image cannot be decoded.
    """
    folder = pathlib.Path(folder)
    sections: list[Section] = []
    for name, pairs in sets.items():
        details = {result.network: result.detail for result in results if result.set == name}
        sharp = np.array([sharpness(decode_image(one, f"{name}: image {at}")) for at, one in enumerate(pairs.images)])
        measured = all(detail.curve is not None for detail in details.values())  # there are pairs of both kinds
        figures = {
            **({"roc": draw_roc(details)} if measured else {}),
            "scores": draw_scores(details),
            "folds": draw_folds(details),
            "norms": draw_norms(details, sharp),
        }
        for figure, content in figures.items():
            with atomic_path(folder / f"{figure}-{name}.png") as temporary:
                temporary.write_bytes(content)
        galleries = {network: _gallery(detail, pairs, sharp) for network, detail in details.items()}
        sections.append(Section(name, details, figures, galleries))
        if progress:
            progress()
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    write_text(folder / "verification.json", json.dumps(as_json(results), indent=1) + "\n")
    write_text(folder / "verification.md", markdown(results))
    write_text(folder / "index.html", page(results, sections, version=__version__, date=date))
    return folder / "index.html"


def as_json(results: Iterable[Result]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the rates by network and set, for JSON."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        found.setdefault(result.network, {})[result.set] = result.detail.as_dict()
    return found


def _gallery(detail: Detail, pairs: Pairs, sharp: np.ndarray) -> Gallery:
    threshold = 1 - detail.verification.threshold / 2
    shown = []
    for is_same, direction in ((False, -1), (True, 1)):
        numbers = np.flatnonzero(detail.is_same == is_same)
        numbers = numbers[np.argsort(direction * detail.scores[numbers], kind="stable")[:SHOWN]]
        shown.append(
            [
                ShownPair(
                    number=int(number),
                    images=(pairs.images[2 * number], pairs.images[2 * number + 1]),
                    score=float(detail.scores[number]),
                    is_wrong=bool((detail.scores[number] > threshold) != is_same),
                )
                for number in numbers
            ]
        )
    once = {pairs.images[at]: at for at in reversed(range(len(pairs.images)))}  # an image may be in several pairs
    shortest = [
        ShownImage(at, pairs.images[at], float(detail.norms[at]), float(sharp[at]))
        for at in sorted(once.values(), key=lambda at: detail.norms[at])[:SHOWN]
    ]
    constant = np.ptp(sharp) == 0 or np.ptp(detail.norms) == 0
    correlation = 0.0 if constant else float(scipy.stats.spearmanr(detail.norms, sharp)[0])
    accepts, rejects = shown
    return Gallery(accepts, rejects, shortest, correlation)
