"""Fast reader of text tables, such as the protocol files of IJB, that names a malformed line.

pandas reads well-formed files, millions of lines per second. A file that it rejects is read again line by line, to find the
line and to say what was expected there. If the two differ, the second reading counts.
"""

from __future__ import annotations

import collections
import csv
import itertools
import math
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas

from vargfacenet.errors import DataError
from vargfacenet.formats.files import MOST_LINE

MOST_BYTES = 4 << 30  # of a file; the pairs of IJB-C take 0.25 GB

_TYPES: dict[type, Any] = {str: object, int: np.int64, float: np.float64}
_KINDS = {str: "text", int: "a whole number", float: "a finite number"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?\Z")
_ROWS = 1 << 19  # parsed at a time

Column = tuple[str, type]  # name, for errors, and str, int or float


class Table:
    """Columns of a table: one array for each column asked for, of str objects, int64 or float64."""

    def __init__(self, path: pathlib.Path, columns: list[np.ndarray], header: int) -> None:
        self.path, self.columns, self._header = path, columns, header

    def where(self, row: int) -> str:
        """Return the file and the line, from 1, of a row, from 0, for errors."""
        return f"{self.path}: line {_line_of(self.path, row + self._header)}"


class _Layout(NamedTuple):
    """Layout of a table: the wanted columns and their places among `width` values, separated by blanks if None."""

    path: pathlib.Path
    columns: list[Column]
    places: Sequence[int]
    width: int
    separator: str | None


def read_blank_separated(path: str | os.PathLike[str], columns: Sequence[Column]) -> Table:
    """Read a UTF-8 table whose values are separated by blanks or tabs; empty lines are skipped.

    Raises
    ------
    DataError
        If the file is missing or empty; naming the line, if it has another number of values, a value has another type or is
        not finite, or the line is not UTF-8.
    """
    return _read(_Layout(pathlib.Path(path), list(columns), range(len(columns)), len(columns), None))


def read_csv(path: str | os.PathLike[str], columns: Sequence[Column]) -> Table:
    """Read columns of a UTF-8 table of comma-separated values with a header line; other columns are ignored.

    The columns are found by their names in the header, in upper or lower case. If the header has none of the names, they
    are the first columns, in this order.

    Raises
    ------
    DataError
        As `read_blank_separated`; also if there is no header, or it has only some of the names.
    """
    path = pathlib.Path(path)
    number, header = _header(path, columns)
    names = [value.strip().upper() for value in header]
    missing = [name for name, _ in columns if name not in names]
    if missing and len(missing) < len(columns):
        raise DataError(f"{path}: line {number} has no column {missing[0]}; it names {', '.join(header)}")
    places = list(range(len(columns))) if missing else [names.index(name) for name, _ in columns]
    return _read(_Layout(path, list(columns), places, len(header), ","))


def _header(path: pathlib.Path, columns: Sequence[Column]) -> tuple[int, list[str]]:
    """Return number and values of the first line that is not empty."""
    for number, line in _lines(path):
        values = _split(path, number, line, ",")
        if len(values) < len(columns):
            wanted = ", ".join(name for name, _ in columns)
            raise DataError(f"{path}: line {number} names {len(values)} column(s), expected {wanted} among them")
        if all(_WHOLE.match(value.strip()) for value in values[: len(columns)]):
            raise DataError(f"{path}: line {number} is not a header: expected the names of the columns")
        return number, values
    raise _empty(path, columns)


def _check_lines(path: pathlib.Path) -> None:
    """Raise DataError if a file or one of its lines is far too long for a list."""
    try:
        with open(path, "rb") as file:
            for place, part in enumerate(iter(lambda: file.read(MOST_LINE), b"")):
                if (place + 1) * MOST_LINE > MOST_BYTES:
                    raise DataError(f"{path} is larger than {MOST_BYTES:,} bytes: it is not a list of faces or pairs")
                if len(part) == MOST_LINE and b"\n" not in part and b"\r" not in part:
                    begin = place * MOST_LINE
                    raise DataError(
                        f"{path} has a line of more than {MOST_LINE} bytes at byte {begin}: it is not a list"
                    )
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _read(layout: _Layout) -> Table:
    path, columns, _, width, separator = layout
    _check_lines(path)
    header = 0 if separator is None else 1
    parts: list[list[np.ndarray]] = [[] for _ in columns]
    try:
        for found in _by_pandas(layout):
            for part, values in zip(parts, found):
                part.append(values)
        if separator is not None and _count(path, separator) != (sum(map(len, parts[0])) + header) * (width - 1):
            del parts[0][:]
            raise ValueError("short lines, which pandas pads, or commas within quotes")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, OverflowError):
        sound = sum(map(len, parts[0]))
        collections.deque(_by_line(layout, skip=sound), maxlen=0)  # raises at a malformed line
        rows = list(zip(*_by_line(layout))) or [()] * len(columns)
        parts = [[np.array(values, _TYPES[kind])] for values, (_, kind) in zip(rows, columns)]
    parsed = [np.concatenate(part) for part in parts]
    if not len(parsed[0]):
        raise _empty(path, columns)
    return Table(path, parsed, header)


def _by_pandas(layout: _Layout) -> Iterator[list[np.ndarray]]:
    """Yield the columns of some rows at a time; ValueError or OverflowError for a file that pandas rejects."""
    path, columns, places, width, separator = layout
    options: dict[str, Any]
    options = {"sep": r"\s+"} if separator is None else {"sep": separator, "skiprows": 1}
    types = {place: str if kind is str else _TYPES[kind] for place, (_, kind) in zip(places, columns)}
    frames = pandas.read_csv(
        path,
        header=None,
        dtype=types,
        na_filter=False,
        quoting=csv.QUOTE_NONE,
        chunksize=_ROWS,
        low_memory=False,
        **options,
    )
    with frames:
        for frame in frames:
            if frame.shape[1] != width:
                raise ValueError("another number of columns")
            found = [frame[place].to_numpy() for place in places]
            if not all(np.isfinite(values).all() for values, (_, kind) in zip(found, columns) if kind is float):
                raise ValueError("not finite")
            yield found


def _count(path: pathlib.Path, separator: str) -> int:
    with open(path, "rb") as file:
        return sum(part.count(separator.encode()) for part in iter(lambda: file.read(1 << 24), b""))


def _by_line(layout: _Layout, *, skip: int = 0) -> Iterator[list[str | int | float]]:
    """Yield the values of each row; the first `skip` rows, which are known to be well-formed, are left out."""
    path, columns, places, width, separator = layout
    for number, line in itertools.islice(_lines(path), skip + (separator is not None), None):
        values = _split(path, number, line, separator)
        if len(values) != width:
            names = f": {' '.join(name for name, _ in columns)}" if separator is None else ", like the header"
            raise DataError(f"{path}: line {number} has {len(values)} value(s), expected {width}{names}")
        yield [_converted(path, number, name, kind, values[place]) for (name, kind), place in zip(columns, places)]


def _converted(path: pathlib.Path, number: int, name: str, kind: type, text: str) -> str | int | float:
    text = text.strip()
    if kind is str:
        return text
    if kind is int and _WHOLE.match(text):
        return int(text.partition(".")[0])
    try:
        value = float(text) if kind is float and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: line {number}: {name} is {text[:40]!r}, expected {_KINDS[kind]}")
    return value


def _split(path: pathlib.Path, number: int, line: bytes, separator: str | None) -> list[str]:
    text = _decoded(path, number, line)
    try:
        return text.split() if separator is None else next(csv.reader([text]), [])
    except csv.Error as error:
        raise DataError(f"{path}: line {number} is not a line of comma-separated values: {error}") from error


def _lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """Yield numbers, from 1, and bytes of the lines that are not empty."""
    try:
        # Opened as text for the line ends of all systems; in Latin-1 each byte is a character.
        with open(path, encoding="latin-1") as file:
            for number, line in enumerate(file, start=1):
                if line.strip(" \t\n"):
                    yield number, line.encode("latin-1")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _decoded(path: pathlib.Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: line {number} is not UTF-8 from byte {error.start + 1} on") from None


def _line_of(path: pathlib.Path, row: int) -> int:
    return next(number for place, (number, _) in enumerate(_lines(path)) if place == row)


def _empty(path: pathlib.Path, columns: Sequence[Column]) -> DataError:
    return DataError(f"{path} is empty: expected lines of {' '.join(name for name, _ in columns)}")
