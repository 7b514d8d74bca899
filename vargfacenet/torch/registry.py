"""The table of operators: MXNet's name of each to what makes a function of a node's attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import torch

from vargfacenet.torch.attributes import Attributes


class Constant:
    """Result of an operator without inputs; a module keeps it on the device of its parameters."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value


# A function of the mode (True in training) and the node's inputs, to its output or a tuple of several.
Operator = Callable[..., Any]
Builder = Callable[[Attributes], Union[Operator, Constant]]
OPERATORS: dict[str, Builder] = {}


def operator(*names: str) -> Callable[[Builder], Builder]:
    """Enter a builder into the table under MXNet's names of an operator."""

    def enter(builder: Builder) -> Builder:
        OPERATORS.update(dict.fromkeys(names, builder))
        return builder

    return enter


def enter_plain(function: Callable[..., Any], *names: str) -> None:
    """Enter an operator that has no attributes and is the same in both modes."""

    def build(attributes: Attributes) -> Operator:
        return lambda training, *inputs: function(*inputs)

    operator(*names)(build)
