"""Results of contests as tables, JSON and a plot."""

import os
import pathlib
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vargfacenet import __version__
from vargfacenet.bench.contests import OURS, Contest
from vargfacenet.bench.rounds import Outcome, peak_memory, rate
from vargfacenet.environment import instruction_sets, processor_name, usable_cores
from vargfacenet.formats.files import atomic_path

MATRIX_OPERATORS = ("onvolution", "FullyConnected", "dot")  # parts of their names, gradients included


def machine() -> dict[str, Any]:
    """Return the properties of this machine that affect speed."""
    return {
        "processor": processor_name(),
        "instruction sets": instruction_sets(),
        "usable cores": usable_cores(),
        "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
        "python": platform.python_version(),
        "vargfacenet": __version__,
    }


def contest_report(contest: Contest, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the result of a contest, as JSON values.

    Each of ``rows`` has the contender's ``name`` and either ``failure`` or its ``median`` in the contest's unit,
    ``rounds``, ``peak_mib`` (its process's memory), ``first_is_faster`` (the median over rounds of how many times
    faster the first contender was in the same round), and where measured ``waited`` (share of the time) and
    ``milliseconds`` of an update by operator. In a contest with baselines ``baseline`` is the name of the one with the
    fastest median, and rows have ``times_baseline``, the median over rounds of how many times faster they were than it
    in the same round.
    """
    first = outcomes[0]
    report = {"title": contest.title, "unit": contest.unit}
    at_best = [one for one in outcomes if one.name in contest.baselines and one.turns and not one.failure]
    baseline = max(at_best, key=rate, default=None)
    if baseline:
        report["baseline"] = baseline.name
    return {**report, "rows": [_row(contest, one, first, baseline) for one in outcomes]}


def _row(contest: Contest, outcome: Outcome, first: Outcome, baseline: Optional[Outcome]) -> dict[str, Any]:
    if outcome.failure or not outcome.turns:
        return {"name": outcome.name, "failure": outcome.failure}
    rates = _rates(outcome)

    def per_unit(value: float) -> float:
        return 1000 / value if contest.unit == "ms" else value

    row: dict[str, Any] = {
        "name": outcome.name,
        "median": per_unit(rate(outcome)),
        "rounds": [per_unit(value) for value in rates],
        "peak_mib": peak_memory(outcome),
    }
    if not first.failure:
        row["first_is_faster"] = statistics.median(mine / its for mine, its in zip(_rates(first), rates))
    if baseline:
        row["times_baseline"] = statistics.median(mine / its for mine, its in zip(rates, _rates(baseline)))
    if "waited" in outcome.turns[0]:
        row["waited"] = statistics.median(turn["waited"] / turn["seconds"] for turn in outcome.turns)
    if "microseconds" in outcome.turns[0]:
        names = {name for turn in outcome.turns for name in turn["microseconds"]}
        of = {name: [turn["microseconds"].get(name, 0) / 1000 for turn in outcome.turns] for name in names}
        row["milliseconds"] = {name: statistics.median(values) for name, values in of.items()}
    return row


def _rates(outcome: Outcome) -> list[float]:
    return [turn["items"] / turn["seconds"] for turn in outcome.turns]


def table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of text for the report of a contest."""
    baseline = report.get("baseline")
    headers = ["", report["unit"], "rounds", f"against {baseline}" if baseline else "first is faster"]
    rows = []
    for place, row in enumerate(report["rows"]):
        if "median" not in row:
            rows.append([row["name"], "-", f"failed: {row['failure']}"[:70], ""])
            continue
        spread = f"{_short(min(row['rounds']))} - {_short(max(row['rounds']))}"
        ratio = row.get("times_baseline") if baseline else row.get("first_is_faster") if place else None
        rows.append([row["name"], _short(row["median"]), spread, "" if ratio is None else f"{ratio:.2f} x"])
    return headers, rows


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def operator_table(row: Mapping[str, Any], shown: int = 12) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of text for the profile in a row of a report: operators by time, then the rest."""
    spent = sorted(row["milliseconds"].items(), key=lambda item: -item[1])
    total = sum(value for _, value in spent)
    rest = sum(value for _, value in spent[shown:])
    rows = [*spent[:shown], (f"{len(spent) - shown} others", rest)] if rest else spent
    return ["operator", "ms", "share"], [[name, f"{value:.1f}", f"{value / total:.1%}"] for name, value in rows]


def matrix_share(row: Mapping[str, Any]) -> float:
    """Return the share of an update's time, 0 .. 1, in convolutions and matrix products, by the profile in a row."""
    spent = row["milliseconds"]
    heavy = sum(value for name, value in spent.items() if any(part in name for part in MATRIX_OPERATORS))
    return heavy / sum(spent.values())


def draw(reports: Sequence[Mapping[str, Any]], path: Union[str, pathlib.Path]) -> None:
    """Draw contests of several contenders, without profiles, as bars, one panel each, into a PNG file."""
    # pyplot would look for a display.
    reports = [one for one in reports if len(one["rows"]) > 1 and "milliseconds" not in one["rows"][0]]
    heights = [1 + len(report["rows"]) for report in reports]
    figure = Figure(figsize=(9, 0.34 * sum(heights) + 0.3), constrained_layout=True)
    panels = figure.subplots(len(reports), 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
    for axes, report in zip(panels, reports):
        names = [row["name"] for row in report["rows"]]
        values = [row.get("median", 0) for row in report["rows"]]
        axes.barh(names, values, color=["tab:blue" if name.startswith(OURS) else "lightgrey" for name in names])
        for place, row in enumerate(report["rows"]):
            text = f" {_short(row['median'])}" if "median" in row else " fails"
            axes.text(row.get("median", 0), place, text, va="center", fontsize="small")
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(f"{report['title']}: {report['unit']}", loc="left", fontsize="small")
        axes.tick_params(labelsize="small")
        axes.xaxis.set_visible(False)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
