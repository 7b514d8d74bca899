"""An image of a run: losses, cosine and accuracy by update, one generation after the other."""

from __future__ import annotations

import pathlib

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vargfacenet.formats.files import atomic_path
from vargfacenet.train.generation_folder import Generation
from vargfacenet.train.run import Result
from vargfacenet.train.run_log import read_log

CURVES = "curves.png"
_PANELS = (
    ("loss", ("loss", "identity_loss", "distillation_loss")),
    ("share", ("accuracy", "cosine")),
)


Points = tuple[list[int], list[float]]  # updates and values


def draw_curves(result: Result) -> pathlib.Path:
    """Draw ``curves.png`` into a run's folder and return its path.

    It shows losses, training accuracy and cosine, and verification accuracy.
    """
    # Not by pyplot, which looks for a display.
    figure = Figure(figsize=(12, 3.6), constrained_layout=True)
    *panels, verified = figure.subplots(1, len(_PANELS) + 1)
    series, scores, ends = _series(result.generations)
    for axes, (title, names) in zip(panels, _PANELS):
        for name in names:
            if name in series:
                axes.plot(*series[name], label=name.replace("_", " "))
        axes.set_ylabel(title)
    for name, points in scores.items():
        verified.plot(*points, marker="o", label=name)
        if result.teacher:
            verified.axhline(result.teacher[name]["accuracy"], linestyle=":", label=f"teacher, {name}")
    verified.set_ylabel("verification accuracy")
    for axes in (*panels, verified):
        axes.set_xlabel("update")
        for end in ends[:-1]:
            axes.axvline(end, color="grey", linewidth=0.5)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    path = pathlib.Path(result.out) / CURVES
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
    return path


def _series(generations: list[Generation]) -> tuple[dict[str, Points], dict[str, Points], list[int]]:
    """Return the values by name, the accuracies by verification set, and the update at which each generation ended."""
    series: dict[str, Points] = {}
    scores: dict[str, Points] = {}
    ends: list[int] = []
    before = 0
    for one in generations:
        lines = read_log(one.out)
        for line in lines:
            for name in (name for _, names in _PANELS for name in names if name in line):
                updates, values = series.setdefault(name, ([], []))
                updates.append(before + line["update"])
                values.append(line[name])
        for update, found in sorted(one.verifications.items()):
            for name, score in found.items():
                updates, values = scores.setdefault(name, ([], []))
                updates.append(before + update)
                values.append(score["accuracy"])
        before += lines[-1]["update"] if lines else 0
        ends.append(before)
    return series, scores, ends
