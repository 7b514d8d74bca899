"""The log of a generation, ``log.jsonl``: one JSON object for each line; and the same as a table, ``metrics.csv``."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from vargfacenet.errors import DataError
from vargfacenet.formats.files import write_text

FILE, TABLE = "log.jsonl", "metrics.csv"


class RunLog:
    """The writer of a generation's log, and of the table that is derived from it.

    Parameters
    ----------
    folder
        The generation's folder, whose log is continued.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self._folder = pathlib.Path(folder)
        self._file = open(self._folder / FILE, "ab", buffering=0)  # noqa: SIM115 - closed in close()
        self._columns = _columns(read_log(folder))

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line, which has ``update``; DataError where the disk does not take it."""
        path = self._folder / FILE
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            path = self._folder / TABLE
            if set(line) <= set(self._columns):
                with open(path, "a", encoding="utf-8", newline="") as file:
                    file.write(_rows([line], self._columns))
            else:
                self._columns = write_table(self._folder)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the files."""
        self._file.close()


def read_log(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines of a generation's log, without one that a stop has cut off."""
    lines = []
    for line in (pathlib.Path(folder) / FILE).read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def cut_log(folder: str | os.PathLike, update: int) -> None:
    """Keep the lines up to an update: the run writes the others again. A log that does not exist is created.

    The table is written again from the log.
    """
    path = pathlib.Path(folder) / FILE
    lines = [line for line in read_log(folder) if line["update"] <= update] if path.is_file() else []
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    write_table(folder)


def write_table(folder: str | os.PathLike) -> list[str]:
    """Write ``metrics.csv`` from the log, and return its columns: all names of the log in the order they appear in.

    A cell is empty where a line does not have the name.
    """
    lines = read_log(folder)
    columns = _columns(lines)
    write_text(pathlib.Path(folder) / TABLE, _rows([dict(zip(columns, columns)), *lines], columns) if columns else "")
    return columns


def _columns(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line))


def _rows(lines: Iterable[Mapping[str, Any]], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(lines)
    return text.getvalue()
