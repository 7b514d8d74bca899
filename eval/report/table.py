"""Rows of the tables of command line, page and papers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vargfacenet.eval.protocols.detail import Detail, Rate
from vargfacenet.eval.report.results import Result

HEADERS = ("network", "set", "accuracy", "95%", "TAR@FAR=1e-3", "EER", "no flip", "threshold", "norm", "pairs")
NOT_MEASURABLE = "-"
NOT_MEASURED = "not measurable"  # the TAR at a FAR for which there are too few pairs


class Table(NamedTuple):
    """A table of text and numbers."""

    headers: tuple[str, ...]
    rows: list[list[Any]]


def summary_rows(results: Iterable[Result]) -> Table:
    """Return one row per network and set; the TAR is exact over all pairs, and the threshold is a cosine."""
    return Table(HEADERS, [[result.network, result.set, *_cells(result.detail)] for result in results])


def rate_rows(details: Mapping[str, Detail]) -> Table:
    """Return the TAR of each network at every FAR, its 95% interval and the threshold, a cosine."""
    rows: list[list[Any]] = []
    for name, detail in details.items():
        for rate in detail.rates:
            if rate.tar is None or rate.low is None or rate.high is None:
                rows.append([name, f"{rate.far:g}", NOT_MEASURED, NOT_MEASURABLE, NOT_MEASURABLE])
            else:
                between = interval_cell((rate.low, rate.high))
                rows.append([name, f"{rate.far:g}", f"{rate.tar:.4f}", between, f"{rate.threshold:.4f}"])
    return Table(("network", "FAR", "TAR", "95%", "cosine above"), rows)


def rates_by_network(details: Mapping[str, Detail]) -> Table:
    """Return the TAR at every FAR with its 95% interval, networks side by side."""
    rows: list[list[Any]] = []
    for number, rate in enumerate(next(iter(details.values())).rates):
        found = [detail.rates[number] for detail in details.values()]
        rows.append([f"{rate.far:g}", *(_tar_with_interval(one) for one in found)])
    return Table(("FAR", *details), rows)


def markdown(results: Sequence[Result]) -> str:
    """Return a table for a paper: in percent, accuracy of each set with its standard deviation, and TAR at FAR = 1e-3."""
    sets = list(dict.fromkeys(result.set for result in results))
    by_network: dict[str, dict[str, Detail]] = {}
    for result in results:
        by_network.setdefault(result.network, {})[result.set] = result.detail
    lines = [
        "| network | " + " | ".join(f"{name} | TAR@FAR=1e-3" for name in sets) + " |",
        "|---" * (1 + 2 * len(sets)) + "|",
    ]
    for network, details in by_network.items():
        cells = [network.replace("|", "\\|")]
        for name in sets:
            score, rate = details[name].verification, _rate(details[name], 1e-3)
            cells += [
                f"{100 * score.accuracy:.2f} +- {100 * score.std:.2f}",
                NOT_MEASURABLE if rate is None else f"{100 * (rate.tar or 0):.2f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def interval_cell(interval: tuple[float, float]) -> str:
    """Format an interval."""
    return f"{interval[0]:.4f} .. {interval[1]:.4f}"


def _tar_with_interval(rate: Rate) -> str:
    if rate.tar is None or rate.low is None or rate.high is None:
        return NOT_MEASURABLE
    return f"{rate.tar:.4f} ({interval_cell((rate.low, rate.high))})"


def _cells(detail: Detail) -> list[Any]:
    score, rate, equal = detail.verification, _rate(detail, 1e-3), detail.equal_error
    return [
        f"{score.accuracy:.5f} +- {score.std:.5f}",
        interval_cell(detail.over_pairs),
        NOT_MEASURABLE if rate is None else f"{rate.tar:.4f}",
        NOT_MEASURABLE if equal is None else f"{equal.rate:.4f}",
        f"{score.accuracy_no_flip:.5f} +- {score.std_no_flip:.5f}",
        f"{1 - score.threshold / 2:.3f}",
        f"{score.embedding_norm:.3f}",
        score.pairs,
    ]


def _rate(detail: Detail, far: float) -> Rate | None:
    return next((rate for rate in detail.rates if rate.far == far and rate.tar is not None), None)
