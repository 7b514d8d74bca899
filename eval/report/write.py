"""From what was measured to the folder of a report."""

import collections
import datetime
import json
import pathlib

import numpy as np
import scipy.stats

from vargfacenet import __version__
from vargfacenet.eval.quality import sharpness
from vargfacenet.eval.report.figures import draw_folds, draw_norms, draw_roc, draw_scores
from vargfacenet.eval.report.page import page
from vargfacenet.eval.report.table import markdown
from vargfacenet.formats.files import atomic_path, write_text
from vargfacenet.formats.images import decode_image

SHOWN = 8  # pairs of each kind, and images

Result = collections.namedtuple("Result", "network about set detail")
Result.__doc__ = "A network's name, more about it, the name of a set of pairs, and the network's `Detail` on that set."

Section = collections.namedtuple("Section", "name details figures galleries")
Section.__doc__ = "A set of pairs in a report: its name; Detail and Gallery by network, figures (PNG bytes) by name."

Gallery = collections.namedtuple("Gallery", "accepts rejects shortest correlation")
Gallery.__doc__ = """Pairs of different people that are most alike, pairs of one that are least, images with the shortest
embeddings, and the rank correlation (Spearman's) of length and sharpness."""

ShownPair = collections.namedtuple("ShownPair", "number images score is_wrong")
ShownImage = collections.namedtuple("ShownImage", "number image norm sharpness")


def write_report(folder, results, sets, *, progress=None):
    """Writes ``index.html``, which holds all it shows, its figures as PNG, ``verification.json`` and ``verification.md``.

    Parameters
    ----------
    folder : path
        Where they go; made where it is missing.
    results : list of Result
        Each network on each set.
    sets : dict of str to Pairs
        The sets.
    progress : callable, optional
        Called after each set.

    Returns
    -------
    path
        The page.

    Raises
    ------
    DataError
        Where a file cannot be written, or an image not read.
    """
    folder, sections = pathlib.Path(folder), []
    for name, pairs in sets.items():
        details = {result.network: result.detail for result in results if result.set == name}
        sharp = np.array([sharpness(decode_image(one, f"{name}: image {at}")) for at, one in enumerate(pairs.images)])
        figures = {
            "roc": draw_roc(details),
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


def as_json(results):
    """Figures by network and set: dict of dict of dict."""
    found = {}
    for result in results:
        found.setdefault(result.network, {})[result.set] = result.detail.as_dict()
    return found


def _gallery(detail, pairs, sharp):
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
    once = {pairs.images[at]: at for at in reversed(range(len(pairs.images)))}  # some stand in several pairs
    shortest = [
        ShownImage(at, pairs.images[at], float(detail.norms[at]), float(sharp[at]))
        for at in sorted(once.values(), key=lambda at: detail.norms[at])[:SHOWN]
    ]
    constant = np.ptp(sharp) == 0 or np.ptp(detail.norms) == 0
    correlation = 0.0 if constant else float(scipy.stats.spearmanr(detail.norms, sharp)[0])
    return Gallery(*shown, shortest, correlation)
