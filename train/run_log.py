"""The log of a generation, ``log.jsonl``: one JSON object for each line."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from typing import Any

from vargfacenet.formats.files import write_text

FILE = "log.jsonl"


def read_log(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines of a generation's log, without one that a stop has cut off."""
    lines = []
    for line in (pathlib.Path(folder) / FILE).read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def cut_log(folder: str | os.PathLike, update: int) -> None:
    """Keep the lines up to an update: the run writes the others again. A log that does not exist is created."""
    path = pathlib.Path(folder) / FILE
    lines = [line for line in read_log(folder) if line["update"] <= update] if path.is_file() else []
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
