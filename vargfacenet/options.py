"""Check settings, given as text or values, against their types and the names that exist."""

from __future__ import annotations

import ast
import collections.abc
import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from vargfacenet.errors import SettingError

T = TypeVar("T")

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def unknown(kind: str, name: object, known: Iterable[str]) -> SettingError:
    """Return the error for a name that does not exist, with the nearest of the `known` names.

    `kind` is what the name stands for, such as ``"network"``.
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SettingError(f"unknown {kind} {name!r}: {hint}there are {', '.join(known)}")


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return the entry of a table; SettingError, with the nearest name, for one that it lacks."""
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise SettingError where a value is not one of the choices."""
    choices = list(choices)
    if value not in choices:
        raise SettingError(f"{name}={value}: expected one of {', '.join(map(str, choices))}")


def check_count(name: str, values: Sequence[object], count: int, meaning: str) -> None:
    """Raise SettingError where there are not `count` values, one for each of what `meaning` says, such as ``"stage"``."""
    if len(values) != count:
        raise SettingError(f"{name}={tuple(values)}: expected {count} numbers, one for each {meaning}")


def split_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Return ``["k=v", ...]`` as a dictionary of text; SettingError for an item without ``=`` or a repeated name."""
    pairs = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        name = name.strip()
        if not equals or not name:
            raise SettingError(f"--set {assignment!r}: expected NAME=VALUE, such as --set use_se=false")
        if name in pairs:
            raise SettingError(f"--set {name}: given twice; keep one")
        pairs[name] = value.strip()
    return pairs


def builder_options(builder: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keyword options of a builder by name: (type, default) of each."""
    hints = typing.get_type_hints(builder)
    return {name: (hints[name], par.default) for name, par in inspect.signature(builder).parameters.items()}


def convert(name: str, value: object, kind: Any) -> Any:
    """Return `value`, text or not, as the type `kind`: bool, int, float, str, or a sequence or optional of these.

    SettingError names the setting, its value and what was expected.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return convert(name, value, next(argument for argument in arguments if argument is not type(None)))
    if origin in (tuple, list, collections.abc.Sequence):
        return tuple(convert(name, item, arguments[0]) for item in _items(name, value))
    text = value.strip().lower() if isinstance(value, str) else value
    if kind is bool:
        if isinstance(value, bool):
            return value
        if text in _TRUE + _FALSE:
            return text in _TRUE
        raise SettingError(f"{name}={value!r}: expected true or false")
    if kind is str:
        if isinstance(value, str):
            return value
        raise SettingError(f"{name}={value!r}: expected text")
    if isinstance(value, bool):
        raise SettingError(f"{name}={value!r}: expected {_NUMBERS[kind]}")
    try:
        number = kind(text)
    except (TypeError, ValueError, OverflowError):
        raise SettingError(f"{name}={value!r}: expected {_NUMBERS[kind]}") from None
    if (kind is int and isinstance(value, float) and value != number) or not abs(number) < 1e300:
        raise SettingError(f"{name}={value!r}: expected {_NUMBERS[kind]}")
    return number


_NUMBERS = {int: "a whole number", float: "a number"}


def _items(name: str, value: object) -> Sequence[object]:
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in "([" and text:
            try:
                value = ast.literal_eval(text)
            except (SyntaxError, ValueError):
                raise SettingError(f"{name}={text!r}: expected values separated by commas, such as 3,7,4") from None
        else:
            value = [item for item in text.split(",") if item.strip()]
    if isinstance(value, (list, tuple)):
        return value
    return [value]


def check_range(name: str, value: float, low: float | None = None, high: float | None = None, unit: str = "") -> None:
    """Raise SettingError where a number is not within ``low .. high``, both included."""
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        unit = f" {unit}" if unit else ""
        expected = f"at least {low}{unit}" if high is None else f"between {low} and {high}{unit}"
        raise SettingError(f"{name}={value}: expected {expected}")
