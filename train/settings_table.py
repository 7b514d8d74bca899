"""Tables of all settings, from their declarations.

``python -m vargfacenet.train.settings_table docs/settings.md`` writes the page of the documentation.
"""

import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from vargfacenet.options import Setting, declared_settings
from vargfacenet.registry import Registry
from vargfacenet.symbols.registry import DISTILLATIONS, LOSSES, NETWORKS
from vargfacenet.train.config import Config
from vargfacenet.train.configuration import parts_of
from vargfacenet.train.settings import GROUPS

COLUMNS = ["setting", "type", "default", "range or choices", "help"]

_TITLE = """# Settings

This page is generated: run `python -m vargfacenet.train.settings_table docs/settings.md` after a change of a declaration.

`vargfacenet train RECIPE --set SETTING=VALUE ...` changes settings; `vargfacenet train RECIPE --help-settings` prints them
with the values of a recipe. A sequence is written as `3,7,4`. Settings marked with * may change when a run is resumed.
Options of a network or a loss are set in the same way, alone (`multiplier=0.5`) or with their owner before them
(`network.multiplier=0.5`, `loss.scale=32`). Former names of settings are understood for one version.
"""
_OPTIONS = """
## Options of networks

`embedding_size` is a setting of its own, and an option of every network.
"""


class Table(NamedTuple):
    """Settings of one group: a title, and a row for each with the cells of `COLUMNS`."""

    title: str
    rows: list[list[str]]


def tables_of(config: Optional[Config] = None) -> list[Table]:
    """Return a table for each group of settings; with `config`, its values stand in the place of defaults.

    With `config` there are also tables of its network, losses, augmentations and callbacks.
    """
    found = []
    for group in GROUPS:
        settings = declared_settings(group)
        values = {name: getattr(config, name) for name in settings} if config else {}
        found.append(Table(_title(group), _rows(settings, values)))
    for part in parts_of(config) if config else []:
        values = getattr(config, part.field)
        rows = _rows(part.options, values[part.key] if part.key else values)
        if rows:
            found.append(Table(f"Options of {part.label}", rows))
    return found


def markdown_page() -> str:
    """Return the page of the documentation; what other packages have registered is left out."""
    choices = {
        "network": NETWORKS.names(own=True),
        "loss": [*LOSSES.names(own=True), "none"],
        "distillation": ["none", *DISTILLATIONS.names(own=True)],
        "augmentations": [],
        "callbacks": [],
    }
    lines = [_TITLE]
    for group in GROUPS:
        lines += [f"## {_title(group)}\n", _markdown(_rows(declared_settings(group), {}, choices))]
    lines.append(_OPTIONS)
    for names, options in _alike(NETWORKS).items():
        lines += [f"### {names}\n", _markdown(options)]
    lines.append("## Options of identity losses\n")
    for names, options in _alike(LOSSES).items():
        lines += [f"### {names}\n", _markdown(options)]
    distillations = _alike(DISTILLATIONS)
    if distillations:
        lines.append("## Options of distillation losses\n")
    for names, options in distillations.items():
        lines += [f"### {names}\n", _markdown(options)]
    return "\n".join(line.rstrip("\n") + "\n" for line in lines).replace("\n\n\n", "\n\n")


def _title(group: type) -> str:
    return (group.__doc__ or "").strip().rstrip(".")


def _alike(registry: Registry[Any]) -> dict[str, list[list[str]]]:
    """Return rows of options by the names that share them; entries without options are left out."""
    found: dict[str, list[list[str]]] = {}
    for name in registry.names(own=True):
        rows = _rows({key: one for key, one in registry[name].options.items() if key != "embedding_size"}, {})
        if not rows:
            continue
        same = next((names for names, others in found.items() if others == rows), None)
        found[f"{same}, {name}" if same else name] = found.pop(same) if same else rows
    return found


def _rows(
    settings: Mapping[str, Setting], values: Mapping[str, Any], choices: Optional[Mapping[str, list[str]]] = None
) -> list[list[str]]:
    found = []
    for name, setting in settings.items():
        allowed = ", ".join(choices[name]) if choices and name in choices else setting.range_name
        former = f" Formerly {', '.join(setting.about.aliases)}." if setting.about.aliases else ""
        mark = "*" if setting.about.may_change else ""
        value = _text(values.get(name, setting.default))
        found.append([f"{name}{mark}", setting.type_name, value, allowed, f"{setting.about.help}{former}"])
    return found


def _text(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _markdown(rows: list[list[str]]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).write_text(markdown_page(), encoding="utf-8")
