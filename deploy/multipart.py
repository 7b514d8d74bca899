"""Reader of ``multipart/form-data``, in which programs and browsers send files (RFC 7578)."""

import re

from vargfacenet.errors import DataError

MOST_PARTS, MOST_HEAD = 64, 4096  # parts of a body, and bytes of the header of a part
_BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"\r\n]{0,100})"')


def read_parts(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Return the name and content of each part of a form; DataError where the body is not whole or not such a form."""
    kind = content_type.partition(";")[0].strip().lower()
    found = _BOUNDARY.search(content_type)
    if kind != "multipart/form-data" or found is None:
        raise DataError(f"the body is {kind[:60] or 'without a type'}, expected multipart/form-data with a boundary")
    boundary = b"--" + (found[1] or found[2]).encode("latin-1", errors="replace")
    # Each boundary is at the start of a line; the last one ends with two dashes.
    pieces = (b"\r\n" + body).split(b"\r\n" + boundary, MOST_PARTS + 2)
    if len(pieces) > MOST_PARTS + 2:
        raise DataError(f"the form has more than {MOST_PARTS} parts")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise DataError("the form is cut, or does not hold the boundary that its type states")
    return [_read_part(piece) for piece in pieces[1:-1]]


def _read_part(piece: bytes) -> tuple[str, bytes]:
    head, blank, content = piece.lstrip(b" \t").partition(b"\r\n\r\n")
    name = _NAME.search(head)
    if not blank or len(head) > MOST_HEAD or name is None:
        raise DataError("a part of the form has no name")
    return name[1].decode("utf-8", errors="replace"), content
