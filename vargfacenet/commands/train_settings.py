"""``vargfacenet train --help-settings``: all settings as tables."""

import shutil
import textwrap
from typing import Optional

from vargfacenet.commands.output import print_table
from vargfacenet.train.config import Config
from vargfacenet.train.settings_table import COLUMNS, tables_of

_LEAST_HELP, _MOST_RANGE = 30, 32  # characters of a line


def print_settings(config: Optional[Config]) -> None:
    """Print all settings by group, with the values of `config` where it is given."""
    headers = [*COLUMNS[:2], "value" if config else "default", *COLUMNS[3:]]
    for table in tables_of(config):
        widths = [max(len(row[at]) for row in [headers, *table.rows]) for at in range(3)]
        limit = min(_MOST_RANGE, max(len(row[3]) for row in [headers, *table.rows]))
        left = shutil.get_terminal_size((120, 24)).columns - sum(widths) - limit - 8
        print(f"{table.title}\n")
        print_table(headers, [line for row in table.rows for line in _lines(row, limit, max(_LEAST_HELP, left))])
        print()
    print(
        "Settings marked with * may change when a run is resumed. Options of a network or a loss are shown for a RECIPE;"
    )
    print("--set network=NAME chooses another.")


def _lines(row: list[str], range_width: int, help_width: int) -> list[list[str]]:
    """Return a row as lines whose last two cells are wrapped."""
    allowed = textwrap.wrap(row[3], range_width) or [""]
    about = textwrap.wrap(row[4], help_width) or [""]
    count = max(len(allowed), len(about))
    first = [row[:3], *[["", "", ""]] * (count - 1)]
    return [
        [*start, allowed[at] if at < len(allowed) else "", about[at] if at < len(about) else ""]
        for at, start in enumerate(first)
    ]
