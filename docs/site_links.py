"""Fit links for the documentation site: files outside `docs/` are not part of it, so their paths are shown instead."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\(\.\./(?P<path>[^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each link to a file outside `docs/` by its text and the file's path in the repository."""
    return _OUTSIDE.sub(lambda link: _shown(link["text"], link["path"]), markdown)


def _shown(text: str, path: str) -> str:
    return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
