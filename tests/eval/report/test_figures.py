"""Figures of a report: what they draw for perfect, failing and single-kind scores, and their colours."""

import numpy as np
import pytest

from vargfacenet.eval.protocols.detail import verify_in_detail
from vargfacenet.eval.report import figures


def verified(noise, is_same):
    random = np.random.RandomState(0)
    first, second = random.normal(size=(2, len(is_same), 16))
    second[is_same] = first[is_same] + noise * random.normal(size=(is_same.sum(), 16))
    rows = np.stack([first, second], axis=1).reshape(-1, 16)
    return verify_in_detail(rows, rows, is_same)


def drawn(monkeypatch, draw, details):
    """The figure that a function makes."""
    kept = []
    monkeypatch.setattr(figures, "_png", lambda figure: kept.append(figure) or b"")
    draw(details)
    kept[0].draw_without_rendering()
    return kept[0]


HALF = np.arange(200) % 2 == 0


def test_error_rates_are_drawn_on_logarithmic_axes(monkeypatch):
    details = {"good": verified(0.5, HALF), "bad": verified(100.0, HALF)}
    axes = drawn(monkeypatch, figures.draw_roc, details).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    for line, detail in zip([one for one in axes.lines if len(one.get_xdata()) > 20], details.values()):
        np.testing.assert_allclose(line.get_ydata(), np.maximum(1 - detail.curve.tar, 0.5 / 100))
        assert axes.get_ylim()[0] <= line.get_ydata().min()


@pytest.mark.parametrize("is_same", [HALF, np.ones(200, bool)])
def test_perfect_scores_and_pairs_of_one_kind_are_drawn(monkeypatch, is_same):
    details = {"perfect": verified(0.0, is_same)}
    for draw in (figures.draw_roc, figures.draw_scores, figures.draw_folds):
        assert drawn(monkeypatch, draw, details).axes
        monkeypatch.undo()


def test_the_legend_lies_outside_the_panels(monkeypatch):
    details = {name: verified(0.5, HALF) for name in ("one", "other")}
    for draw in (figures.draw_roc, figures.draw_scores, figures.draw_folds):
        figure = drawn(monkeypatch, draw, details)
        legend = figure.legends[0].get_window_extent()
        assert all(not legend.overlaps(axes.get_window_extent()) for axes in figure.axes)
        monkeypatch.undo()


def test_one_colour_has_one_meaning():
    assert not {figures._SAME, figures._DIFFERENT} & set(figures.COLOURS)
    assert len(set(figures.COLOURS)) == len(figures.COLOURS)
