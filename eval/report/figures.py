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
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SAME, _DIFFERENT = "#009e73", "#d55e00"


def draw_roc(details: Mapping[str, Detail]) -> bytes:
    """Draw TAR by FAR, on a logarithmic axis down to one pair, for each network on one verification set."""
    figure, axes = _figure(6.4, 4.2)
    pairs = min(int((~detail.is_same).sum()) for detail in details.values())
    for colour, (name, detail) in zip(_colours(), details.items()):
        if detail.curve is not None:
            axes.step(detail.curve.far, detail.curve.tar, where="post", color=colour, label=name)
            far, tar, low, high = _measured(detail)
            axes.errorbar(
                far,
                tar,
                yerr=np.array([tar - low, high - tar]).clip(0) if len(far) else None,
                fmt="o",
                color=colour,
                markersize=3,
                capsize=3,
            )
    lowest = min((low for detail in details.values() for low in _measured(detail)[2].tolist()), default=0.0)
    bottom = max(0, lowest - 0.25 * (1 - lowest) - 0.005)
    axes.set(xscale="log", xlim=(0.5 / max(pairs, 1), 1), ylim=(bottom, 1 + 0.02 * (1 - bottom)))
    axes.axvline(1 / max(pairs, 1), color="grey", linewidth=0.8, linestyle=":")
    axes.annotate("one pair", (1 / max(pairs, 1), bottom), textcoords="offset points", xytext=(4, 4), color="grey")
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    axes.legend(loc="lower right", frameon=False)
    return _png(figure)


def draw_scores(details: Mapping[str, Detail]) -> bytes:
    """Draw histograms of the cosines of pairs of one identity and of different identities, one row per network."""
    figure, panels = _figure(6.4, 1.2 + 1.7 * len(details), len(details))
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
    np.atleast_1d(panels)[0].legend(frameon=False)
    np.atleast_1d(panels)[-1].set_xlabel("cosine")
    return _png(figure)


def draw_folds(details: Mapping[str, Detail]) -> bytes:
    """Draw the accuracy of each fold, and the mean."""
    figure, axes = _figure(6.4, 3.2)
    width = 0.8 / len(details)
    for number, (colour, (name, detail)) in enumerate(zip(_colours(), details.items())):
        places = np.arange(len(detail.fold_accuracies)) + 1 + (number - (len(details) - 1) / 2) * width
        axes.plot(places, detail.fold_accuracies, "o", color=colour, label=name)
        axes.axhline(detail.verification.accuracy, color=colour, linewidth=0.8)
    axes.set(xlabel="fold", ylabel="accuracy", xticks=np.arange(len(detail.fold_accuracies)) + 1)
    figure.legend(loc="outside upper left", frameon=False, ncols=2, fontsize="small")
    return _png(figure)


def draw_norms(details: Mapping[str, Detail], sharpness: np.ndarray) -> bytes:
    """Draw the L2 norm of embeddings by sharpness of images, float (images,), one panel per network."""
    figure, panels = _figure(6.4, 3.4, 1, len(details), sharex=True)
    for colour, axes, (name, detail) in zip(_colours(), np.atleast_1d(panels), details.items()):
        axes.plot(sharpness + 1, detail.norms, ".", color=colour, markersize=2, alpha=0.3, rasterized=True)
        axes.set(xscale="log", xlabel="sharpness", ylabel="L2 norm")
        axes.set_title(name, fontsize="small", loc="left")
    return _png(figure)


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
    figure = Figure(figsize=(width, height), constrained_layout=True)
    return figure, figure.subplots(rows, columns, sharex=sharex)


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
