"""Names of files and people, which may contain any characters, as text for a terminal or a list."""

from __future__ import annotations

_SURROGATES = range(0xDC80, 0xDD00)  # bytes that are not UTF-8, which are written as they are


def one_line(text: str) -> str:
    """Return `text` with characters that cannot be printed as escapes, such as ``\\n``.

    Otherwise a line end in a name would break a table or a list, and an escape sequence would control the terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or ord(one) in _SURROGATES else one.encode("unicode_escape").decode("ascii")
        for one in text
    )
