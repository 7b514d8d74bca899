"""Recognition of files that are something else than their names say, by their first bytes."""

from __future__ import annotations

import os
import pathlib

_TORCH = "weights of PyTorch: 'vargfacenet convert FILE OUT --as NETWORK' reads those of published networks"
# First bytes, what they are, and what to do.
_STARTS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run 'git lfs pull'"),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", _TORCH),  # as PyTorch wrote them before 1.6
    (b"PK\x03\x04", "a ZIP archive: unpack it first"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\xfd7zXZ\x00", "compressed by xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive: unpack it first"),
    (b"GIF8", "a GIF image: convert it to JPEG or PNG"),
    (b"II*\x00", "a TIFF or raw image: convert it to JPEG or PNG"),
    (b"MM\x00*", "a TIFF or raw image: convert it to JPEG or PNG"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image: convert it to JPEG or PNG"),
    (b"\xffO\xffQ", "a JPEG 2000 image: convert it to JPEG or PNG"),
    (b"\xff\x0a", "a JPEG XL image: convert it to JPEG or PNG"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
)
_BRANDS = {
    b"avif": "an AVIF image: convert it to JPEG or PNG",
    b"avis": "an AVIF image: convert it to JPEG or PNG",
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1"), "a HEIC image: convert it to JPEG or PNG"),
}
_HTML = (b"<!doctype html", b"<html", b"<?xml", b"<svg")
_LOOKED_AT = 64  # bytes
_BOM = b"\xef\xbb\xbf"


def what_it_is(content: bytes) -> str:
    """Return ``; it is ...``, with what to do, for bytes of a known other kind; an empty string for all others."""
    start = content[:_LOOKED_AT]
    if start.startswith(b"PK\x03\x04") and b"/data.pkl" in start:  # the first file of the archive
        return f"; it is {_TORCH}"
    for first, kind in _STARTS:
        if start.startswith(first):
            return f"; it is {kind}"
    if start[4:8] == b"ftyp":
        return f"; it is {_BRANDS.get(start[8:12], 'a video (MP4)')}"
    text = start.removeprefix(_BOM).lstrip().lower()
    if text.startswith(_HTML[:2]):
        return "; it is a web page, such as a refused download: download it again"
    if text.startswith(_HTML[2:]):
        return "; it is XML or SVG text"
    return "" if content else "; it is empty"


def what_file_it_is(path: str | os.PathLike[str]) -> str:
    """Return `what_it_is` of a file; an empty string for one that cannot be read."""
    try:
        if not pathlib.Path(path).is_file():
            return ""
        with open(path, "rb") as file:
            return what_it_is(file.read(_LOOKED_AT))
    except OSError:
        return ""


def without_bom(content: bytes) -> bytes:
    """Return text without the byte order mark with which some editors begin UTF-8."""
    return content.removeprefix(_BOM)
