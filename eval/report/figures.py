"""Figures of a verification, each as PNG; the colour of a network is the same in all of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vargfacenet.eval.protocols.detail import Detail

# Okabe and Ito's palette, safe for colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b3294")
_DPI = 180  # text stays readable on a phone, where a figure is as wide as the screen, and is sharp on a desk
_SAME, _DIFFERENT = "#666666", "#c4b000"  # no network has them


def draw_roc(details: Mapping[str, Detail]) -> bytes:
    """Draw the false reject rate, 1 - TAR, by FAR for each network on one verification set, on logarithmic axes.

    Strong networks differ on them, where TARs would all be close to 1. A rate of 0 is drawn at half a pair.
    """
    figure, axes = _figure(4.8, 3.6)
    same = min(int(detail.is_same.sum()) for detail in details.values())
    different = min(int((~detail.is_same).sum()) for detail in details.values())
    least = 0.5 / max(same, 1)
    for colour, (name, detail) in zip(_colours(), details.items()):
        if detail.curve is not None:
            rejected = (1 - detail.curve.tar).clip(least)
            axes.step(detail.curve.far, rejected, where="post", color=colour, label=name, linewidth=1.2)
            far, tar, low, high = _measured(detail)
            middle, bottom, top = ((1 - one).clip(least) for one in (tar, high, low))
            spread = np.array([middle - bottom, top - middle]).clip(0) if len(far) else None
            axes.errorbar(far, middle, yerr=spread, fmt="o", color=colour, markersize=3, capsize=3)
    axes.set(xscale="log", yscale="log", xlim=(0.5 / max(different, 1), 1), ylim=(least, 1.2))
    axes.axvline(1 / max(different, 1), color="grey", linewidth=0.8, linestyle=":")
    axes.annotate(
        "one pair", (1 / max(different, 1), least), textcoords="offset points", xytext=(4, 4), color="grey", fontsize=8
    )
    axes.set(xlabel="false accept rate", ylabel="false reject rate (1 - TAR)")
    axes.grid(which="major", color="#dddddd", linewidth=0.6)
    _legend(figure, len(details))
    return _png(figure)


def draw_scores(details: Mapping[str, Detail]) -> bytes:
    """Draw histograms of the cosines of pairs of one identity and of different identities, one row per network."""
    figure, panels = _figure(4.8, 1.2 + 1.5 * len(details), len(details))
    bins = np.linspace(-1, 1, 101)
    for axes, (name, detail) in zip(np.atleast_1d(panels), details.items()):
        for chosen, colour, label in (
            (detail.is_same, _SAME, "same identity"),
            (~detail.is_same, _DIFFERENT, "different"),
        ):
            axes.hist(detail.scores[chosen], bins, color=colour, alpha=0.6, label=label)
        threshold = 1 - detail.verification.threshold / 2
        axes.axvline(threshold, color="black", linewidth=0.8)
        axes.set_title(f"{name}   threshold {threshold:.3f}", fontsize="small", loc="left")
        axes.set_ylabel("pairs")
    _legend(figure, 2, np.atleast_1d(panels)[0])
    for axes in np.atleast_1d(panels):
        axes.set(xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1))
    np.atleast_1d(panels)[-1].set_xlabel("cosine")
    return _png(figure)


def draw_folds(details: Mapping[str, Detail]) -> bytes:
    """Draw the accuracy of each fold, and the mean."""
    figure, axes = _figure(4.8, 3.0)
    width = 0.8 / len(details)
    for number, (colour, (name, detail)) in enumerate(zip(_colours(), details.items())):
        places = np.arange(len(detail.fold_accuracies)) + 1 + (number - (len(details) - 1) / 2) * width
        axes.plot(places, detail.fold_accuracies, "o", color=colour, label=name)
        axes.axhline(detail.verification.accuracy, color=colour, linewidth=0.8)
    axes.set(xlabel="fold", ylabel="accuracy", xticks=np.arange(len(detail.fold_accuracies)) + 1)
    _legend(figure, len(details))
    return _png(figure)


def draw_norms(details: Mapping[str, Detail], sharpness: np.ndarray) -> bytes:
    """Draw the L2 norm of embeddings by sharpness of images, float (images,), one panel per network."""
    figure, panels = _figure(4.8, 3.2, 1, len(details), sharex=True)
    for colour, axes, (name, detail) in zip(_colours(), np.atleast_1d(panels), details.items()):
        axes.plot(sharpness + 1, detail.norms, ".", color=colour, markersize=2, alpha=0.3, rasterized=True)
        axes.set(xscale="log", xlabel="sharpness", ylabel="L2 norm")
        axes.set_title(name, fontsize="small", loc="left")
    return _png(figure)


def _legend(figure: Figure, entries: int, of: Any = None) -> None:
    """Put the legend above the panels, where it covers nothing; `of` is the one panel whose entries it shows."""
    handles, labels = (of or figure.axes[0]).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", frameon=False, ncols=min(entries, 2), fontsize="small")


def _measured(detail: Detail) -> np.ndarray:
    """Return FAR, TAR, and the bounds of its interval, float (4, n), at the FARs that can be measured."""
    rates = [(rate.far, rate.tar, rate.low, rate.high) for rate in detail.rates if rate.tar is not None]
    return np.array(rates, float).reshape(-1, 4).T


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def _figure(
    width: float, height: float, rows: int = 1, columns: int = 1, *, sharex: bool = False
) -> tuple[Figure, Any]:
    # Without pyplot, which looks for a display.
    figure = Figure(figsize=(width, height), dpi=_DPI, constrained_layout=True)
    return figure, figure.subplots(rows, columns, sharex=sharex)


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
