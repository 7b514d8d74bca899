"""Tables, JSON and progress bars of commands."""

import contextlib
import json
import logging
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

from vargfacenet.errors import DataError
from vargfacenet.formats.files import write_fault, write_text
from vargfacenet.formats.names import one_line
from vargfacenet.progress import progress

log = logging.getLogger(__name__)
__all__ = [
    "VERIFICATION_HEADERS",
    "check_writable",
    "json_writer",
    "markdown_table",
    "print_table",
    "progress",
    "rate_cell",
    "verification_cells",
]
# The TAR as InsightFace computes it, interpolated where a fold has too few pairs; `verify` gives the exact one.
VERIFICATION_HEADERS = ("accuracy", "TAR@FAR=1e-3, folds")
BARE = ""  # the value of --json without a file


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headers, columns of numbers aligned to the right and all others to the left."""
    lines = [[one_line(str(cell)) for cell in row] for row in rows]
    columns = list(zip(headers, *lines))
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]
    for line in [list(headers), ["-" * width for width in widths], *lines]:
        aligned = zip(line, widths, to_right)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in aligned).rstrip())


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under headers as a Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def rate_cell(rate: Optional[float]) -> str:
    """Return a rate with four digits, or a dash where it was not measurable."""
    return "-" if rate is None else f"{rate:.4f}"


def check_writable(*paths: Optional[str]) -> None:
    """Raise DataError where a file cannot be written, before minutes of work; ``-`` is standard output, None no file."""
    for path in paths:
        if path not in (None, "-", BARE):
            fault = "it is a folder" if pathlib.Path(path).is_dir() else write_fault(pathlib.Path(path).parent)
            if fault is not None:
                raise DataError(f"cannot write {path}: {fault}")


@contextlib.contextmanager
def json_writer(path: Optional[str]) -> Iterator[Callable[[object], None]]:
    """Give a function that writes its argument as JSON to `path`; with None it does nothing.

    With ``-`` the last JSON given is all that standard output receives: tables go to standard error meanwhile. DataError
    at once where the file cannot be written.
    """
    check_writable(path)
    if path == BARE:
        log.warning("--json without a file is deprecated and will be removed in the next version: give --json -")
        path = "-"
    output = sys.stdout
    last: list[str] = []

    def write(content: object) -> None:
        text = json.dumps(content, indent=1) + "\n"
        if path == "-":
            last[:] = [text]
        elif path:
            write_text(path, text)

    with contextlib.redirect_stdout(sys.stderr) if path == "-" else contextlib.nullcontext():
        yield write
    output.writelines(last)


def verification_cells(score: Mapping[str, Any]) -> list[str]:
    """Return accuracy and TAR at FAR 1e-3 of a `Verification` as a dict, as cells under `VERIFICATION_HEADERS`."""
    tar = score["tar"]["0.001"]
    return [f"{score['accuracy']:.5f} +- {score['std']:.5f}", "-" if tar is None else f"{tar:.4f}"]
