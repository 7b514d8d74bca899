"""Tables and progress for people."""

import logging
import sys
import time

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 30


def print_table(headers, rows):
    """Prints rows of text under headers: numbers to the right, words to the left."""
    rows = [[str(cell) for cell in row] for row in rows]
    columns = list(zip(headers, *rows))
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]
    for row in [headers, ["-" * width for width in widths], *rows]:
        aligned = zip(row, widths, to_right)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in aligned).rstrip())


def markdown_table(headers, rows):
    """The same as the lines of a Markdown table (str), for a paper or a README."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def rate_cell(rate):
    """A rate as the cell of a table: four digits, or a dash where it was not measurable."""
    return "-" if rate is None else f"{rate:.4f}"


def progress(items=None, **options):
    """A tqdm bar on standard error, where that is a terminal; elsewhere lines of log, no more than two a minute."""
    import tqdm  # here, so that doctor can say that it is missing

    if sys.stderr.isatty():
        return tqdm.tqdm(items, file=sys.stderr, **options)
    return _lines_of(tqdm.tqdm)(items, **options)


def _lines_of(tqdm):
    class Lines(tqdm):
        """What tqdm says, as lines of log."""

        def __init__(self, items, **options):
            quiet = {"file": sys.stderr, "mininterval": _SECONDS_BETWEEN_LINES, "ncols": 0, "leave": False}
            super().__init__(items, **quiet, **options)

        said = 0.0

        def display(self, *_, **__):
            # tqdm's own watcher asks more often than it should.
            now = time.time()
            if self.n and now - max(self.start_t, self.said) >= _SECONDS_BETWEEN_LINES:
                self.said = now
                log.info("%s", self)

    return Lines


def verification_cells(score):
    """Accuracy and TAR at FAR 1e-3 of a verification (dict of its fields), as the cells of a table."""
    tar = score["tar"]["0.001"]
    return [f"{score['accuracy']:.5f} +- {score['std']:.5f}", "-" if tar is None else f"{tar:.4f}"]
