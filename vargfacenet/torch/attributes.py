"""The attributes of a node of an MXNet graph, which are text there, as Python values."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NoReturn

from vargfacenet.errors import CheckpointError

# Attributes that change the speed, the memory or the name of a node, never its values.
_NEUTRAL = frozenset(
    ("workspace", "cudnn_tune", "cudnn_off", "name", "num_args", "is_int", "lower_bound", "upper_bound")
    + ("num_filter", "num_hidden")  # which the weights' shapes say too
)
_MISSING = object()


class Attributes:
    """The attributes of one node. What the reader of a node does not ask for is refused by `check_all_read`.

    Parameters
    ----------
    node
        A node of MXNet's JSON: ``op``, ``name`` and ``attrs``.
    """

    def __init__(self, node: Mapping[str, Any]) -> None:
        self.op, self.name = node["op"], node["name"]
        self._given = {key: text for key, text in node.get("attrs", {}).items() if not key.startswith("__")}
        self._read: set[str] = set()

    def value(self, key: str, default: Any = _MISSING) -> Any:
        """Return an attribute: a number, a tuple, a truth value, None, or text that is none of these."""
        self._read.add(key)
        text = self._given.get(key)
        if text is None:
            if default is _MISSING:
                self.refuse(f"lacks the attribute {key}")
            return default
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
        return tuple(value) if isinstance(value, list) else value

    def flag(self, key: str, default: bool) -> bool:
        """Return an attribute that is true or false, which MXNet writes as True, true or 1."""
        value = self.value(key, default)
        return value.lower() == "true" if isinstance(value, str) else bool(value)

    def numbers(self, key: str, default: Any = _MISSING) -> tuple[int, ...]:
        """Return an attribute that is a row of whole numbers; one number is a row of one, None an empty one."""
        value = self.value(key, default)
        if value is None:
            return ()
        return tuple(value) if isinstance(value, tuple) else (value,)

    def choice(self, key: str, known: tuple[Any, ...], default: Any = _MISSING) -> Any:
        """Return an attribute that must be one of the values known here."""
        value = self.value(key, default)
        if value not in known:
            self.refuse(f"has {key}={value}; known are {', '.join(map(str, known))}")
        return value

    def check_all_read(self) -> None:
        """Raise a CheckpointError for an attribute that nobody has asked for: it might change what is computed."""
        unread = sorted(set(self._given) - self._read - _NEUTRAL)
        if unread:
            self.refuse(f"has the attribute {unread[0]}={self._given[unread[0]]}, which is not known here")

    def refuse(self, fault: str) -> NoReturn:
        """Raise a CheckpointError that names the node and its operator."""
        raise CheckpointError(f"the {self.op} {self.name!r} {fault}: the PyTorch engine cannot run this graph")
