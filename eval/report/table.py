"""Rows of the tables of command line, page and papers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.eval.protocols.detail import Detail, Rate
from vargfacenet.eval.report.results import Result

HEADERS = ("network", "set", "accuracy", "95%", "TAR@FAR=1e-3", "EER", "no flip", "threshold", "norm", "pairs")
NOT_MEASURABLE = "-"


class Table(NamedTuple):
    """A table of text and numbers."""

    headers: tuple[str, ...]
    rows: list[list[Any]]


def summary_rows(results: Iterable[Result]) -> Table:
    """Return one row per network and set; the TAR is exact over all pairs, and the threshold is a cosine."""
    return Table(HEADERS, [[result.network, result.set, *_cells(result.detail)] for result in results])


def unmeasured(detail: Detail) -> str | None:
    """Return in a sentence what the FARs that are not measurable would need; None where all are measured."""
    measured = [rate.tar is not None for rate in detail.rates]
    different = int(np.count_nonzero(~detail.is_same))
    if all(measured):
        return None
    if not 0 < different < len(detail.is_same):
        return "No false accept rate is measurable: that needs pairs of both kinds."
    which = "Smaller false" if any(measured) else "False"
    return f"{which} accept rates need more than {different:,} pairs of different identities."


def rate_rows(details: Mapping[str, Detail]) -> Table:
    """Return the TAR of each network at each FAR that is measured, its 95% interval and the threshold, a cosine."""
    rows: list[list[Any]] = []
    for name, detail in details.items():
        for rate in _measured(detail):
            rows.append([name, f"{rate.far:g}", *_with_interval(rate), f"{rate.threshold:.4f}"])
    return Table(("network", "FAR", "TAR", "95%", "cosine above"), rows)


def rates_by_network(details: Mapping[str, Detail]) -> Table:
    """Return the TAR at each FAR that is measured with its 95% interval, networks on one set side by side."""
    rows: list[list[Any]] = []
    for rates in zip(*map(_measured, details.values())):
        rows.append([f"{rates[0].far:g}", *("{} ({})".format(*_with_interval(rate)) for rate in rates)])
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


def _measured(detail: Detail) -> list[Rate]:
    return [rate for rate in detail.rates if rate.tar is not None]


def _with_interval(rate: Rate) -> tuple[str, str]:
    return f"{rate.tar:.4f}", f"{rate.low:.4f} .. {rate.high:.4f}"


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
