"""Names under which networks, losses and the like are found, from this package and from others.

An entry is added by a decorator, or by an entry point of an installed package, which is loaded when its name is asked for.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Callable, Generic, TypeVar

from vargfacenet.errors import SettingError
from vargfacenet.options import unknown

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name; iterating gives the names.

    Parameters
    ----------
    kind
        What the entries are, such as ``network``, for errors.
    group
        Entry point group of other packages, such as ``vargfacenet.networks``.
    make
        Makes the entry of a name and an object, where an entry point names an object that is not registered yet.
    reserved
        Names that no entry may have.
    instead
        Remedies for names that people look for and that no entry has, by their letters in lower case.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        make: Callable[[str, Any], Entry],
        *,
        reserved: tuple[str, ...] = (),
        instead: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.kind, self.group, self.instead = kind, group, instead
        self._make, self._reserved = make, reserved
        self._entries: dict[str, Entry] = {}
        self._sources: dict[str, str] = {}

    def add(self, name: str, entry: Entry, *, source: str) -> None:
        """Add an entry that `source`, the name of a module, defines.

        SettingError where the name is taken by another module, reserved, or not a name. The same module may replace its
        entries, as reloading it does.
        """
        if not re.fullmatch(r"[A-Za-z]\w*", name) or name in self._reserved:
            raise SettingError(f"{name!r} cannot be the name of a {self.kind}: expected letters, digits and _")
        if self._sources.get(name, source) != source:
            raise SettingError(
                f"the {self.kind} {name!r} of {source} has the name of one of {self._sources[name]}; give it another name"
            )
        self._entries[name], self._sources[name] = entry, source

    def names(self, *, own: bool = False) -> list[str]:
        """Return all names, those of this package first; with `own` those of this package alone."""
        if own:
            return [name for name, source in self._sources.items() if source.partition(".")[0] == "vargfacenet"]
        return list(dict.fromkeys([*self._entries, *(point.name for point in _entry_points(self.group))]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> Entry:
        """Return an entry; SettingError for an unknown name, or an entry point that cannot be loaded."""
        if name not in self._entries:
            for point in _entry_points(self.group):
                if point.name == name:
                    self._load(point)
                    break
            else:
                raise unknown(self.kind, name, self, self.instead)
        return self._entries[name]

    def _load(self, point: importlib.metadata.EntryPoint) -> None:
        try:
            found = point.load()
            if point.name not in self._entries:  # unless its module has registered it by the decorator
                source = getattr(found, "__module__", None) or point.value.partition(":")[0]
                self.add(point.name, self._make(point.name, found), source=source)
        except Exception as error:
            raise SettingError(
                f"the {self.kind} {point.name!r} cannot be loaded from {point.value} (entry point of {self.group}): "
                f"{type(error).__name__}: {error}"
            ) from error


@functools.cache  # reading what is installed takes some 20 ms
def _entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
    found: Any = importlib.metadata.entry_points()
    points = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
    # An environment may list a package twice, as under a name and under its links.
    return list({point.name: point for point in points}.values())


def run_file(name: str, path: str | os.PathLike[str]) -> ModuleType:
    """Run a Python file as a module of a name, and return it; errors are the file's own, ImportError for another file."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that what it defines knows its module
    spec.loader.exec_module(module)
    return module


def import_or_run(name: str, path: str | os.PathLike[str] | None) -> None:
    """Import a module, or run the file that it was made of where Python does not find the module."""
    if name in sys.modules:
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name or path is None:
            raise
        run_file(name, path)
