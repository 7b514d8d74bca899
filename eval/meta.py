"""Text tables of numbers, as sets of templates come with: read fast, and a bad line named.

pandas reads what is sound, millions of lines a second. What it refuses is read again line by line, which finds the line and
says what was expected there; that reading decides, should the two ever differ.
"""

import collections
import csv
import itertools
import math
import pathlib
import re

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.formats.files import MOST_LINE

MOST_BYTES = 4 << 30  # of a file; the pairs of IJB-C take 0.25 GB

_TYPES = {str: object, int: np.int64, float: np.float64}
_KINDS = {str: "text", int: "a whole number", float: "a finite number"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?\Z")
_ROWS = 1 << 19  # parsed at a time


class Table:
    """The columns of a table, and where its rows stand.

    Attributes
    ----------
    columns : list of array
        One for each column that was asked for: str as objects, int64 or float64.
    """

    def __init__(self, path, columns, header):
        self.path, self.columns, self._header = path, columns, header

    def where(self, row):
        """The file and line (from 1) of a row (from 0), for errors (str)."""
        return f"{self.path}: line {_line_of(self.path, row + self._header)}"


def read_blank_separated(path, columns):
    """Reads a table whose values have blanks or tabs between them; empty lines are passed over.

    Parameters
    ----------
    path : str or path
        UTF-8.
    columns : sequence of (str, type)
        Name, for errors, and str, int or float of each column.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        Where the file is missing or empty, or naming the line, where it has another number of values, a value is not of
        its type or not finite, or the line is not UTF-8.
    """
    return _read(pathlib.Path(path), list(columns), range(len(columns)), len(columns), None)


def read_csv(path, columns):
    """Reads columns of a table of comma-separated values with a header line; other columns are not looked at.

    Parameters
    ----------
    path : str or path
        UTF-8.
    columns : sequence of (str, type)
        Name and type of the columns wanted. They are found by name in the header, upper or lower case; where it has none
        of the names, they are the first ones, in this order.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        As `read_blank_separated`, and where there is no header, or one that has some of the names but not all.
    """
    path = pathlib.Path(path)
    number, header = _header(path, columns)
    names = [value.strip().upper() for value in header]
    missing = [name for name, _ in columns if name not in names]
    if missing and len(missing) < len(columns):
        raise DataError(f"{path}: line {number} has no column {missing[0]}; it names {', '.join(header)}")
    places = range(len(columns)) if missing else [names.index(name) for name, _ in columns]
    return _read(path, list(columns), places, len(header), ",")


def _header(path, columns):
    """Number and values of the first line that is not empty."""
    for number, line in _lines(path):
        values = _split(path, number, line, ",")
        if len(values) < len(columns):
            wanted = ", ".join(name for name, _ in columns)
            raise DataError(f"{path}: line {number} names {len(values)} column(s), expected {wanted} among them")
        if all(_WHOLE.match(value.strip()) for value in values[: len(columns)]):
            raise DataError(f"{path}: line {number} is no header: expected the names of the columns")
        return number, values
    raise _empty(path, columns)


def _check_lines(path):
    """DataError for a file that is far too large, or has a line that is far too long for a list."""
    try:
        with open(path, "rb") as file:
            for place, part in enumerate(iter(lambda: file.read(MOST_LINE), b"")):
                if (place + 1) * MOST_LINE > MOST_BYTES:
                    raise DataError(f"{path} is larger than {MOST_BYTES:,} bytes: it is no list of faces or pairs")
                if len(part) == MOST_LINE and b"\n" not in part and b"\r" not in part:
                    begin = place * MOST_LINE
                    raise DataError(f"{path} has a line of more than {MOST_LINE} bytes at byte {begin}: it is no list")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _read(path, columns, places, width, separator):
    _check_lines(path)
    header, layout = 0 if separator is None else 1, (path, columns, places, width, separator)
    parts = [[] for _ in columns]
    try:
        for found in _by_pandas(*layout):
            for part, values in zip(parts, found):
                part.append(values)
        if separator is not None and _count(path, separator) != (sum(map(len, parts[0])) + header) * (width - 1):
            del parts[0][:]
            raise ValueError("short lines, which pandas fills up, or commas within quotes")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, OverflowError):
        sound = sum(map(len, parts[0]))
        collections.deque(_by_line(*layout, skip=sound), maxlen=0)  # stops at a bad line
        rows = list(zip(*_by_line(*layout))) or [()] * len(columns)
        parts = [[np.array(values, _TYPES[kind])] for values, (_, kind) in zip(rows, columns)]
    parsed = [np.concatenate(part) for part in parts]
    if not len(parsed[0]):
        raise _empty(path, columns)
    return Table(path, parsed, header)


def _by_pandas(path, columns, places, width, separator):
    """The columns, some rows at a time; ValueError or OverflowError for what it does not take."""
    import pandas  # here, so that other protocols start without it

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


def _count(path, separator):
    with open(path, "rb") as file:
        return sum(part.count(separator.encode()) for part in iter(lambda: file.read(1 << 24), b""))


def _by_line(path, columns, places, width, separator, *, skip=0):
    """The values of one row after another, of which the first `skip` are known to be sound and are left out."""
    for number, line in itertools.islice(_lines(path), skip + (separator is not None), None):
        values = _split(path, number, line, separator)
        if len(values) != width:
            names = f": {' '.join(name for name, _ in columns)}" if separator is None else ", as the header"
            raise DataError(f"{path}: line {number} has {len(values)} value(s), expected {width}{names}")
        yield [_converted(path, number, name, kind, values[place]) for (name, kind), place in zip(columns, places)]


def _converted(path, number, name, kind, text):
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


def _split(path, number, line, separator):
    text = _decoded(path, number, line)
    try:
        return text.split() if separator is None else next(csv.reader([text]), [])
    except csv.Error as error:
        raise DataError(f"{path}: line {number} is no line of comma-separated values: {error}") from error


def _lines(path):
    """Numbers, from 1, and bytes of the lines that are not empty."""
    try:
        # As text for its line ends, those of other systems too; in Latin-1 each byte is a character.
        with open(path, encoding="latin-1") as file:
            for number, line in enumerate(file, start=1):
                if line.strip(" \t\n"):
                    yield number, line.encode("latin-1")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _decoded(path, number, line):
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: line {number} is not UTF-8, from its byte {error.start + 1} on") from None


def _line_of(path, row):
    return next(number for place, (number, _) in enumerate(_lines(path)) if place == row)


def _empty(path, columns):
    return DataError(f"{path} is empty: expected lines of {' '.join(name for name, _ in columns)}")
