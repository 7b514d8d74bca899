"""Bars and log lines on a terminal, and what takes long shows a bar."""

import io
import logging
import sys

import numpy as np
import pytest
import tqdm

from tests.helpers.training import tiny
from vargfacenet.deploy import quantise
from vargfacenet.progress import LogHandler, progress
from vargfacenet.train.run import train


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self):
        return True

    def lines(self):
        """The lines as they stand after carriage returns."""
        shown = []
        for line in self.getvalue().split("\n"):
            row = ""
            for part in line.split("\r"):
                row = part + row[len(part) :]
            shown.append(row.rstrip())
        return shown


def on_terminal(monkeypatch):
    """Make standard error a terminal. To be called in the test itself: pytest exchanges the streams after fixtures."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found


@pytest.fixture
def log():
    """A logger without a handler of its own."""
    logger = logging.getLogger("a logger of the test")
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


def test_a_log_line_does_not_split_a_bar(monkeypatch, log):
    terminal = on_terminal(monkeypatch)
    log.addHandler(LogHandler())
    with progress(total=4, unit="update", mininterval=0) as bar:
        bar.update(2)
        log.info("first line")
        bar.update(2)
        log.info("second line")
    lines = [line for line in terminal.lines() if line]
    assert lines[:2] == ["first line", "second line"]
    assert len(lines) == 3  # the bar stands once, below
    assert lines[2].startswith("100%")
    assert "4/4" in lines[2]


def test_a_log_line_without_a_bar_is_a_line(monkeypatch, log):
    terminal = on_terminal(monkeypatch)
    log.addHandler(LogHandler())
    log.info("alone")
    assert terminal.getvalue() == "alone\n"


def test_no_terminal_gets_plain_lines(monkeypatch):
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    handler = LogHandler()
    handler.emit(logging.LogRecord("a", logging.INFO, "", 0, "text of %s", ("it",), None))
    with progress(total=4, unit="update", leave=True) as bar:
        bar.update(4)
    assert plain.getvalue() == "text of it\n"
    assert isinstance(bar, tqdm.tqdm)


def test_verification_during_training_shows_a_bar(monkeypatch, face_folder, pairs_file, tmp_path):
    terminal = on_terminal(monkeypatch)
    train(tiny(max_updates=3), data=face_folder, out=tmp_path, bins=[pairs_file])
    assert terminal.getvalue().count("verifying on stripes:   0%") == 2  # updates 0 and 3
    assert "/80" in terminal.getvalue()  # the last count is drawn only where enough time has passed


def test_the_ranges_of_int8_show_a_bar(monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(quantise, "ranges", lambda *_: {})
    monkeypatch.setattr(quantise, "_embed", lambda graph, images: np.ones((len(images), 4)))
    monkeypatch.setattr(quantise, "quantise", lambda graph, layers, found: graph)
    graph = type("Graph", (), {"nodes": [], "constants": {}, "layers": lambda self: {}})()
    quantise.quantise_measured(graph, np.zeros((6, 3, 112, 112), np.float32))
    assert "int8: ranges of values:   0%" in terminal.getvalue()
