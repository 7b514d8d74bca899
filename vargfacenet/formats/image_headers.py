"""Read the first bytes of an encoded image, to know its size before a decoder allocates it.

JPEG, PNG, BMP and WebP are known; other content is never passed to a decoder.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

MOST_CHUNKS = 1 << 16  # of a PNG
MOST_MARKERS = 4096  # of a JPEG before its frame header; each may hold 64 KiB


class Form(NamedTuple):
    """Kind of file ("JPEG", "PNG", "BMP" or "WebP"), size in pixels, channels, and bits of each channel.

    Channels are 1 for grey, 2 for grey and alpha, 3 for colour, 4 for colour and alpha, or CMYK.
    """

    kind: str
    height: int
    width: int
    channels: int
    bits: int


# Frame headers of every process, Huffman or arithmetic; C4, C8 and CC are other markers.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a length
# The end of the coded data of a scan: a marker that is neither a stuffed byte nor a restart.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PNG_START, _ANIMATED = b"\x89PNG\r\n\x1a\n", (b"acTL", b"fcTL", b"fdAT")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def image_form(encoded: bytes) -> Form | None:
    """Return the `Form` of an encoded image; None where its kind is unknown or its header damaged."""
    for start, read in _KINDS:
        if encoded.startswith(start):
            try:
                form = read(encoded)
            except (struct.error, IndexError):
                return None
            return form if form and form.height > 0 and form.width > 0 else None
    return None


def is_whole_png(encoded: bytes) -> bool:
    """Return whether all chunks of a PNG are there and undamaged, and hold one image.

    OpenCV 4.11 allocates any length that a chunk announces, and takes a second header for a new size.
    """
    at, view = len(_PNG_START), memoryview(encoded)
    for number in range(MOST_CHUNKS):
        if at + 12 > len(encoded):
            return False
        length, kind = int.from_bytes(view[at : at + 4], "big"), encoded[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(encoded) or int.from_bytes(view[end : end + 4], "big") != zlib.crc32(view[at + 4 : end]):
            return False
        if (kind == b"IHDR") != (number == 0) or kind in _ANIMATED:
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False


def jpeg_end(encoded: bytes) -> int | None:
    """Return the length of the JPEG at the beginning of a file, which may also hold the video of a motion photo.

    The markers are followed from the first, as an end marker may also occur in a thumbnail in the header, or by chance in
    the bytes after the image. None where the JPEG is cut or its markers are damaged.
    """
    at = 2
    while True:
        found = _AFTER_SCAN.match(encoded, at)
        if not found:  # coded data, or fill bytes
            found = _AFTER_SCAN.search(encoded, at)
            if not found:
                return None
        at, marker = found.end(), encoded[found.end() - 1]
        if marker == 0xD9:
            return at
        if marker not in _ALONE:
            length = int.from_bytes(encoded[at : at + 2], "big")
            if length < 2 or at + length > len(encoded):
                return None
            at += length


def webp_orientation(encoded: bytes) -> int:
    """Return the EXIF orientation, 1 .. 8, of a WebP image; 1 where it states none."""
    at = 12
    while encoded[12:16] == b"VP8X" and at + 8 <= len(encoded):
        kind, (length,) = encoded[at : at + 4], struct.unpack_from("<I", encoded, at + 4)
        if kind == b"EXIF":
            return _orientation(encoded[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return 1


def _orientation(exif: bytes) -> int:
    """Return the orientation in the first directory of EXIF data, which are laid out as a TIFF file."""
    exif = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "?")
    try:
        (begin,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, begin)
        for at in range(begin + 2, begin + 2 + 12 * min(entries, 256), 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, at)
            if tag == 0x112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _jpeg(encoded: bytes) -> Form | None:
    at = 2
    for _ in range(MOST_MARKERS):
        if encoded[at] != 0xFF:
            return None
        while encoded[at] == 0xFF:  # markers may be preceded by any number of these
            at += 1
        marker = encoded[at]
        if marker in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", encoded, at + 3)
            return Form("JPEG", height, width, channels, bits)
        if marker in (0xD9, 0xDA):  # the end, or a scan without a frame
            return None
        at += 1
        if marker not in _ALONE:
            (length,) = struct.unpack_from(">H", encoded, at)
            if length < 2:
                return None
            at += length
    return None


def _png(encoded: bytes) -> Form | None:
    if encoded[12:16] != b"IHDR":
        return None
    width, height, bits, colour = struct.unpack_from(">IIBB", encoded, 16)
    return Form("PNG", height, width, _PNG_CHANNELS.get(colour, 0), bits)


def _bmp(encoded: bytes) -> Form | None:
    (size,) = struct.unpack_from("<I", encoded, 14)
    width, height, _, bits = struct.unpack_from("<HHHH" if size == 12 else "<iiHH", encoded, 18)
    return Form("BMP", abs(height), width, 4 if bits == 32 else 3, 8)


def _webp(encoded: bytes) -> Form | None:
    kind = encoded[12:16]
    if encoded[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        width, height = (int.from_bytes(encoded[at : at + 3], "little") + 1 for at in (24, 27))
        return Form("WebP", height, width, 4 if encoded[20] & 0x10 else 3, 8)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", encoded, 21)
        return Form("WebP", (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1, 4 if packed >> 28 & 1 else 3, 8)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", encoded, 26)
        return Form("WebP", height & 0x3FFF, width & 0x3FFF, 3, 8)
    return None


_KINDS: tuple[tuple[bytes, Callable[[bytes], Form | None]], ...] = (
    (b"\xff\xd8", _jpeg),
    (_PNG_START, _png),
    (b"BM", _bmp),
    (b"RIFF", _webp),
)
