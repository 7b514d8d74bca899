"""Settings declared once: type, default, range, unit and help, from which checks, help and tables derive.

A declaration is the annotation of a keyword option or of a dataclass field:

>>> def network(*, width: Annotated[float, About("Factor of the channels.", low=0.25, high=16)] = 1.0): ...
>>> declared_settings(network)["width"].check("2")
2.0
"""

import dataclasses
import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional, Union

from vargfacenet.errors import SettingError
from vargfacenet.values import convert, is_sequence, without_optional

_NAMES = {int: "int", float: "float", bool: "bool", str: "str"}


@dataclasses.dataclass(frozen=True)
class About:
    """A declaration besides its type and default.

    Attributes
    ----------
    help
        One or two sentences.
    low, high
        Smallest and largest value, both allowed; of a sequence, those of each item.
    unit
        Such as ``pixels``.
    choices
        The values that are allowed, or a function that returns them.
    may_change
        True where a run may be resumed with another value.
    aliases
        Former names of the setting, which are still understood.
    instead
        Remedies for values that people look for and that are not choices, by their letters in lower case.
    """

    help: str = ""
    low: Optional[float] = None
    high: Optional[float] = None
    unit: str = ""
    choices: Union[tuple[Any, ...], Callable[[], Iterable[str]]] = ()
    may_change: bool = False
    aliases: tuple[str, ...] = ()
    instead: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)

    def choice_names(self) -> list[Any]:
        """Return the values that are allowed; an empty list where all are."""
        return list(self.choices() if callable(self.choices) else self.choices)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A declared setting.

    Attributes
    ----------
    kind
        ``bool``, ``int``, ``float``, ``str``, or a sequence or optional of these.
    default
        The value that it has unless another is given.
    """

    name: str
    kind: Any
    default: Any
    about: About = About()

    def check(self, value: object, *, name: Optional[str] = None) -> Any:
        """Return a value, or its text, in the setting's type; SettingError where type, range or choice is wrong.

        An error calls the setting `name`, by default its own.
        """
        name = name or self.name
        value = convert(name, value, self.kind)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, (int, float)) and not isinstance(item, bool):
                check_range(name, item, self.about.low, self.about.high, self.about.unit)
        choices = self.about.choice_names()
        for item in value if isinstance(value, tuple) else (value,):
            if choices and item is not None and item not in choices:
                if isinstance(item, str):
                    raise unknown(name, item, choices, self.about.instead)
                raise _not_among(name, item, choices)
        return value

    @property
    def is_optional(self) -> bool:
        """True where the value may be None."""
        return without_optional(self.kind)[1]

    @property
    def type_name(self) -> str:
        """The type as a table shows it, such as ``int`` or ``int, ...``."""
        kind, optional = without_optional(self.kind)
        text = f"{_NAMES[without_optional(typing.get_args(kind)[0])[0]]}, ..." if is_sequence(kind) else _NAMES[kind]
        return f"{text} or none" if optional else text

    @property
    def range_name(self) -> str:
        """The range or the choices as a table shows them, with the unit."""
        low, high = self.about.low, self.about.high
        if self.about.choices:
            return ", ".join(map(str, self.about.choice_names()))
        if low is None and high is None:
            return self.about.unit
        if low is None or high is None:
            text = f"at least {_digits(low)}" if low is not None else f"at most {_digits(high)}"
        else:
            text = f"{_digits(low)} .. {_digits(high)}"
        return f"{text} {self.about.unit}".rstrip()


def declared_settings(source: Callable[..., object], *, skip: Iterable[str] = ()) -> dict[str, Setting]:
    """Return the settings that a function's keyword-only options or a dataclass's fields declare, in their order.

    Names in `skip` are left out, as are positional parameters. SettingError, naming the function, where an option has no
    type or default, or a type that no text can be converted to.
    """
    if dataclasses.is_dataclass(source):
        hints = typing.get_type_hints(source, include_extras=True)
        options = [(field.name, hints[field.name], field.default) for field in dataclasses.fields(source)]
    else:
        options = _keyword_options(source)
    return {
        name: _declaration(source, name, annotation, default)
        for name, annotation, default in options
        if name not in skip
    }


def _keyword_options(function: Callable[..., object]) -> list[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            raise SettingError(
                f"{_place(function)} takes **{name}: expected each option by name, with type and default"
            )
        if parameter.kind is parameter.KEYWORD_ONLY:
            # A function that is made by another may carry a signature of its own, whose annotations are objects.
            given = parameter.annotation
            annotation = hints.get(name, parameter.empty) if isinstance(given, str) or name in hints else given
            found.append((name, annotation, parameter.default))
    return found


def _declaration(source: Callable[..., object], name: str, annotation: Any, default: Any) -> Setting:
    if annotation is inspect.Parameter.empty:
        raise SettingError(f"{_place(source)}: option {name} has no type; expected such as {name}: float = 1.0")
    if default is inspect.Parameter.empty or default is dataclasses.MISSING:
        raise SettingError(f"{_place(source)}: option {name} has no default; expected such as {name}: float = 1.0")
    inner, is_optional = without_optional(
        annotation
    )  # before Python 3.11, a default of None makes any annotation optional
    about = next((extra for extra in getattr(inner, "__metadata__", ()) if isinstance(extra, About)), About())
    bare = getattr(inner, "__origin__", inner) if hasattr(inner, "__metadata__") else inner
    kind = Optional[bare] if is_optional else bare
    plain, _ = without_optional(kind)
    item = without_optional((typing.get_args(plain) or (None,))[0])[0] if is_sequence(plain) else plain
    if item not in _NAMES:
        raise SettingError(
            f"{_place(source)}: option {name} has the type {kind}: expected bool, int, float, str, or a sequence or "
            "Optional of these"
        )
    return Setting(name, kind, default, about)


def _digits(number: Optional[float]) -> str:
    return f"{int(number):,}" if number is not None and number == int(number) else f"{number:g}"


def _place(source: Callable[..., object]) -> str:
    return f"{getattr(source, '__module__', '?')}.{getattr(source, '__qualname__', source)}"


def unknown(
    kind: str, name: object, known: Iterable[str], instead: Mapping[str, str] = types.MappingProxyType({})
) -> SettingError:
    """Return the error for a name that does not exist, with what to give for it, or the nearest one that does.

    Parameters
    ----------
    kind
        What the name is of, such as ``network``.
    name
        The name that was given.
    known
        The names that exist.
    instead
        Remedies for some names that do not, by their letters in lower case.
    """
    remedy = instead.get(re.sub("[^a-z]", "", str(name).lower()))
    if remedy:
        return SettingError(f"unknown {kind} {name!r}: {remedy}")
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SettingError(f"unknown {kind} {name!r}: {hint}there are {', '.join(known) or 'none'}")


def _not_among(name: str, value: float, choices: list[float]) -> SettingError:
    known = [f"{choice:g}" for choice in choices]
    expected = " or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}"
    return SettingError(f"{name}={value:g}: expected {expected}")


def check_count(name: str, values: Sequence[object], count: int, meaning: str) -> None:
    """Raise SettingError where there are not `count` values, one for each of what `meaning` says, such as ``"stage"``."""
    if len(values) != count:
        raise SettingError(f"{name}={tuple(values)}: expected {count} numbers, one for each {meaning}")


def split_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Return ``["k=v", ...]`` as a dict of text; SettingError for one without ``=`` or given twice."""
    pairs: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        name = name.strip()
        if re.search(r",\s*[a-z]\w*=", value):
            raise SettingError(f"--set {assignment!r}: several settings are separated by blanks, not commas")
        if not equals or not name:
            raise SettingError(f"--set {assignment!r}: expected NAME=VALUE, such as --set use_se=false")
        if name in pairs:
            raise SettingError(f"--set {name}: given twice; keep one")
        pairs[name] = value.strip()
    return pairs


def check_options(known: Mapping[str, Setting], options: Mapping[str, object], *, owner: str) -> dict[str, Any]:
    """Return options in their types; SettingError, naming `owner`, for an unknown one or a wrong value."""
    for name in options:
        if name not in known:
            raise unknown(f"option of {owner}", name, known)
    return {name: known[name].check(value) for name, value in options.items()}


def check_range(
    name: str, value: float, low: Optional[float] = None, high: Optional[float] = None, unit: str = ""
) -> None:
    """Raise SettingError where a number is not within ``low .. high``, both included."""
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        unit = f" {unit}" if unit else ""
        expected = f"at least {low}{unit}" if high is None else f"between {low} and {high}{unit}"
        raise SettingError(f"{name}={value}: expected {expected}")
