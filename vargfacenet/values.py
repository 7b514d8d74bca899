"""Values of settings: texts of the command line and of files as the types that a declaration states."""

import ast
import collections.abc
import types
import typing
from collections.abc import Iterable
from typing import Any, Union

from vargfacenet.errors import SettingError

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_UNIONS = (Union, getattr(types, "UnionType", Union))  # Optional[int], and int | None from Python 3.10
_SEQUENCES = (tuple, list, collections.abc.Sequence)
_NUMBERS = {int: "a whole number", float: "a number"}


def without_optional(kind: Any) -> tuple[Any, bool]:
    """Return a type without Optional, and whether it was optional."""
    if typing.get_origin(kind) in _UNIONS:
        return next(one for one in typing.get_args(kind) if one is not type(None)), True
    return kind, False


def is_sequence(kind: Any) -> bool:
    return typing.get_origin(kind) in _SEQUENCES


def convert(name: str, value: object, kind: Any) -> Any:
    """Return `value`, text or not, as the type `kind`: bool, int, float, str, or a sequence or optional of these.

    SettingError names the setting, its value and what was expected.
    """
    plain, optional = without_optional(kind)
    if optional:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return convert(name, value, plain)
    if is_sequence(kind):
        return tuple(convert(name, item, typing.get_args(kind)[0]) for item in _items(name, value))
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


def _items(name: str, value: object) -> Iterable[object]:
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in "([" and text:
            try:
                value = ast.literal_eval(text)
            except (SyntaxError, ValueError):
                raise SettingError(f"{name}={text!r}: expected values separated by commas, such as 3,7,4") from None
        else:
            value = [item.strip() for item in text.split(",") if item.strip()]
    return value if isinstance(value, (list, tuple)) else [value]
