"""The text around the options in ``--help``."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import Optional


def wrap(text: str) -> str:
    """Return `text` wrapped to the terminal, paragraph by paragraph; paragraphs with an indented first line stay."""
    width = max(40, shutil.get_terminal_size().columns - 2)
    return "\n\n".join(part if part[:1] == " " else textwrap.fill(part, width) for part in text.split("\n\n"))


def example_text(examples: Sequence[str]) -> Optional[str]:
    """Return the section of ``--help`` that lists command lines; None without any."""
    return "\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else None
