"""Images of runs: losses, cosines and accuracies by update, one generation after the other, a panel for each quantity."""

from __future__ import annotations

import itertools
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vargfacenet.errors import SettingError
from vargfacenet.formats.files import atomic_path
from vargfacenet.train.generation_folder import Generation
from vargfacenet.train.run import Result
from vargfacenet.train.run_log import read_log

CURVES = "curves.png"
FORMATS = (".png", ".svg", ".pdf")
# Of a line of the log; bad_pictures in those of earlier versions.
NOT_MEASURES = ("update", "epoch", "lr", "images_per_second", "waiting", "bad_images", "bad_pictures")
_ACROSS = 3  # panels in a row
_WIDE = 20.0  # ratio of the largest to the smallest loss from which an axis is logarithmic
_STYLES = ("-", "--", ":", "-.")

Points = tuple[list[int], list[float]]  # updates and values


class Curves(NamedTuple):
    """The curves of a run.

    Attributes
    ----------
    measures
        What the log holds by name: losses, cosine, accuracy of the training batches.
    scores
        The verification accuracy by set.
    ends
        The update at which each generation ended.
    """

    measures: dict[str, Points]
    scores: dict[str, Points]
    ends: list[int]


class Panel(NamedTuple):
    """A panel: its label, lines by name, and heights of horizontal lines by name."""

    label: str
    lines: Mapping[str, Points]
    levels: Mapping[str, float]


def draw_curves(result: Result) -> pathlib.Path:
    """Draw ``curves.png`` into a run's folder and return its path.

    It shows each loss, the training accuracy, the cosine, and the accuracy of all verification sets.
    """
    curves = curves_of(result.generations)
    panels = [Panel(_spaced(name), {"": points}, {}) for name, points in curves.measures.items()]
    if curves.scores:
        teacher = {f"teacher, {name}": (result.teacher or {})[name]["accuracy"] for name in result.teacher or {}}
        panels.append(Panel("verification accuracy", curves.scores, teacher))
    path = pathlib.Path(result.out) / CURVES
    _draw(panels, path, ends=curves.ends[:-1])
    return path


def draw_runs(runs: Mapping[str, Curves], path: str | os.PathLike) -> None:
    """Draw the curves of several runs into one image, each run in one colour; SettingError for an unknown format."""
    check_format(path)
    measures = dict.fromkeys(name for curves in runs.values() for name in curves.measures)
    sets = dict.fromkeys(name for curves in runs.values() for name in curves.scores)
    losses_first = sorted(measures, key=lambda name: "loss" not in name)
    panels = [
        Panel(_spaced(name), {run: curves.measures.get(name, ([], [])) for run, curves in runs.items()}, {})
        for name in losses_first
    ]
    panels += [
        Panel(f"accuracy on {name}", {run: curves.scores.get(name, ([], [])) for run, curves in runs.items()}, {})
        for name in sets
    ]
    _draw(panels, pathlib.Path(path), one_legend=True)


def check_format(path: str | os.PathLike) -> None:
    """Raise SettingError where no image of this name can be drawn."""
    if pathlib.Path(path).suffix.lower() not in FORMATS:
        raise SettingError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")


def curves_of(generations: Iterable[Generation]) -> Curves:
    """Read the curves of a run; a generation without a log has none."""
    curves = Curves({}, {}, [])
    before = 0
    for one in generations:
        try:
            lines = read_log(one.out)
        except OSError:
            lines = []
        for line in lines:
            for name in measures_of(line):
                _add(curves.measures, name, before + line["update"], line[name])
        for update, found in sorted(one.verifications.items()):
            for name, score in found.items():
                _add(curves.scores, name, before + update, score["accuracy"])
        before += lines[-1]["update"] if lines else 0
        curves.ends.append(before)
    return curves


def measures_of(line: Mapping[str, object]) -> list[str]:
    """Return the names of what a line of the log measures: losses, cosine, accuracy."""
    return [name for name in line if name not in NOT_MEASURES]


def _add(series: dict[str, Points], name: str, update: int, value: float) -> None:
    updates, values = series.setdefault(name, ([], []))
    updates.append(update)
    values.append(value)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _draw(panels: Sequence[Panel], path: pathlib.Path, *, ends: Sequence[int] = (), one_legend: bool = False) -> None:
    # Not by pyplot, which looks for a display.
    across = min(_ACROSS, max(1, len(panels)))
    down = max(1, math.ceil(len(panels) / across))
    figure = Figure(figsize=(4 * across, 3.6 * down), constrained_layout=True)
    for panel, axes in itertools.zip_longest(panels, figure.subplots(down, across, squeeze=False).flat):
        if panel is None:
            axes.set_axis_off()
            continue
        _draw_panel(panel, axes)
        for end in ends:
            axes.axvline(end, color="grey", linewidth=0.5)
        if not one_legend and axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    if one_legend and panels:
        handles = [Line2D([], [], color=_color(at), linestyle=_style(at)) for at in range(len(panels[0].lines))]
        figure.legend(handles, list(panels[0].lines), loc="outside upper center", ncols=across, fontsize="small")
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(str(temporary), format=path.suffix.lower()[1:])


def _draw_panel(panel: Panel, axes: Axes) -> None:
    for number, (name, (updates, values)) in enumerate(panel.lines.items()):
        # A few points, such as those of verifications, are marked: one alone would not be seen.
        marker = "o" if len(updates) <= 20 else None
        axes.plot(
            updates, values, _style(number), color=_color(number), marker=marker, markersize=3, label=name or None
        )
    for number, (name, level) in enumerate(panel.levels.items()):
        axes.axhline(level, linestyle=":", color=_color(number), label=name)
    axes.set_ylabel(panel.label)
    axes.set_xlabel("update")
    values = [value for _, points in panel.lines.values() for value in points if math.isfinite(value)]
    if "loss" in panel.label and values and min(values) > 0 and max(values) / min(values) > _WIDE:
        axes.set_yscale("log")


def _color(number: int) -> str:
    return f"C{number % 10}"


def _style(number: int) -> Any:
    return _STYLES[number // 10 % len(_STYLES)]
