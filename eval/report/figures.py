"""Figures of verification, each as the bytes of a PNG. A network has one colour throughout."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SAME, _DIFFERENT = "#009e73", "#d55e00"


def draw_roc(details):
    """True accept rate by false accept rate, on a logarithmic axis down to one pair.

    Parameters
    ----------
    details : dict of str to Detail
        By network, on one set of pairs.
    """
    figure, axes = _figure(6.4, 4.2)
    pairs = min(int((~detail.is_same).sum()) for detail in details.values())
    for colour, (name, detail) in zip(_colours(), details.items()):
        if detail.curve is not None:
            axes.step(detail.curve.far, detail.curve.tar, where="post", color=colour, label=name)
            rates = [rate for rate in detail.rates if rate.tar is not None]
            spread = np.array([[rate.tar - rate.low, rate.high - rate.tar] for rate in rates]).clip(0)
            axes.errorbar(
                [rate.far for rate in rates],
                [rate.tar for rate in rates],
                yerr=spread.T if rates else None,
                fmt="o",
                color=colour,
                markersize=3,
                capsize=3,
            )
    lowest = min((rate.low for detail in details.values() for rate in detail.rates if rate.tar is not None), default=0)
    bottom = max(0, lowest - 0.25 * (1 - lowest) - 0.005)
    axes.set(xscale="log", xlim=(0.5 / max(pairs, 1), 1), ylim=(bottom, 1 + 0.02 * (1 - bottom)))
    axes.axvline(1 / max(pairs, 1), color="grey", linewidth=0.8, linestyle=":")
    axes.annotate("one pair", (1 / max(pairs, 1), bottom), textcoords="offset points", xytext=(4, 4), color="grey")
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    axes.legend(loc="lower right", frameon=False)
    return _png(figure)


def draw_scores(details):
    """Histograms of the cosines of pairs of one person and of two, a network a row."""
    figure, panels = _figure(6.4, 1.2 + 1.7 * len(details), len(details))
    bins = np.linspace(-1, 1, 101)
    for axes, (name, detail) in zip(np.atleast_1d(panels), details.items()):
        for chosen, colour, label in ((detail.is_same, _SAME, "one person"), (~detail.is_same, _DIFFERENT, "two")):
            axes.hist(detail.scores[chosen], bins, color=colour, alpha=0.6, label=label)
        threshold = 1 - detail.verification.threshold / 2
        axes.axvline(threshold, color="black", linewidth=0.8)
        axes.set_title(f"{name}   threshold {threshold:.3f}", fontsize="small", loc="left")
        axes.set_ylabel("pairs")
    np.atleast_1d(panels)[0].legend(frameon=False)
    np.atleast_1d(panels)[-1].set_xlabel("cosine")
    return _png(figure)


def draw_folds(details):
    """Accuracy of each fold, with the mean."""
    figure, axes = _figure(6.4, 3.2)
    width = 0.8 / len(details)
    for number, (colour, (name, detail)) in enumerate(zip(_colours(), details.items())):
        places = np.arange(len(detail.fold_accuracies)) + 1 + (number - (len(details) - 1) / 2) * width
        axes.plot(places, detail.fold_accuracies, "o", color=colour, label=name)
        axes.axhline(detail.verification.accuracy, color=colour, linewidth=0.8)
    axes.set(xlabel="fold", ylabel="accuracy", xticks=np.arange(len(detail.fold_accuracies)) + 1)
    figure.legend(loc="outside upper left", frameon=False, ncols=2, fontsize="small")
    return _png(figure)


def draw_norms(details, sharpness):
    """Length of embeddings by sharpness of images, a network a panel.

    Parameters
    ----------
    details : dict of str to Detail
    sharpness : float array (images,)
        As of `vargfacenet.eval.quality.sharpness`.
    """
    figure, panels = _figure(6.4, 3.4, 1, len(details), sharex=True)
    for colour, axes, (name, detail) in zip(_colours(), np.atleast_1d(panels), details.items()):
        axes.plot(sharpness + 1, detail.norms, ".", color=colour, markersize=2, alpha=0.3, rasterized=True)
        axes.set(xscale="log", xlabel="sharpness", ylabel="length")
        axes.set_title(name, fontsize="small", loc="left")
    return _png(figure)


def _colours():
    while True:
        yield from COLOURS


def _figure(width, height, rows=1, columns=1, **options):
    # Not pyplot, which looks for a display.

    figure = Figure(figsize=(width, height), constrained_layout=True)
    return figure, figure.subplots(rows, columns, **options)


def _png(figure):
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
