"""What is looked at in an encoded picture before a decoder sees it."""

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from vargfacenet.errors import DataError
from vargfacenet.headers import picture_form
from vargfacenet.pictures import as_face_jpeg, decode_picture, encode_jpeg, encode_png, is_cut

STRIPES = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None] * 4, (60, 40, 3))


def saved(kind, mode="RGB", **options):
    content = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(STRIPES)).convert(mode).save(content, kind, **options)
    return content.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    ("encoded", "form"),
    [
        (saved("JPEG"), ("JPEG", 60, 40, 3, 8)),
        (saved("JPEG", progressive=True), ("JPEG", 60, 40, 3, 8)),
        (saved("JPEG", "L"), ("JPEG", 60, 40, 1, 8)),
        (saved("JPEG", "CMYK"), ("JPEG", 60, 40, 4, 8)),
        (saved("PNG"), ("PNG", 60, 40, 3, 8)),
        (saved("PNG", "RGBA"), ("PNG", 60, 40, 4, 8)),
        (saved("PNG", "LA"), ("PNG", 60, 40, 2, 8)),
        (saved("PNG", "P"), ("PNG", 60, 40, 3, 8)),
        (saved("BMP"), ("BMP", 60, 40, 3, 8)),
        (saved("WebP"), ("WebP", 60, 40, 3, 8)),
        (saved("WebP", lossless=True), ("WebP", 60, 40, 3, 8)),
        (saved("WebP", "RGBA", lossless=True), None),
    ],
)
def test_a_header_says_what_the_picture_is(encoded, form):
    assert form is None or picture_form(encoded) == form
    assert decode_picture(encoded, "it", shape=None).shape == (60, 40, 3)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PPM", "ICO"])
def test_other_kinds_never_reach_a_decoder(kind):
    with pytest.raises(DataError, match="no picture: no JPEG, PNG, BMP or WebP"):
        decode_picture(saved(kind), "it", shape=None)


def test_every_prefix_of_a_picture_is_refused_or_has_its_form():
    for whole in (saved("JPEG"), saved("PNG"), saved("BMP"), saved("WebP")):
        for length in range(min(len(whole), 700)):
            assert picture_form(whole[:length]) in (None, picture_form(whole))


def test_a_png_chunk_that_announces_gigabytes_is_never_made_room_for(monkeypatch):
    png = bytearray(saved("PNG"))
    place = png.index(b"IDAT")
    png[place - 4 : place] = struct.pack(">I", 0x70000000)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(DataError, match="no picture: a PNG that is cut, damaged or animated"):
        decode_picture(bytes(png), "it", shape=None)


def test_a_png_of_two_headers_or_frames_is_refused():
    png = saved("PNG")
    for more in (chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)), chunk(b"acTL", bytes(8))):
        with pytest.raises(DataError, match="cut, damaged or animated"):
            decode_picture(png[:33] + more + png[33:], "it", shape=None)


def test_a_png_with_a_flipped_bit_is_refused():
    png = bytearray(saved("PNG"))
    png[-20] ^= 1
    with pytest.raises(DataError, match="cut, damaged or animated"):
        decode_picture(bytes(png), "it", shape=None)


def test_a_jpeg_of_hundreds_of_scans_is_refused(monkeypatch):
    jpeg = saved("JPEG", progressive=True)
    scan = jpeg.rindex(b"\xff\xda")
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(DataError, match="more than 64 scans"):
        decode_picture(jpeg[:-2] + jpeg[scan:-2] * 80 + jpeg[-2:], "it", shape=None)


def test_a_cut_jpeg_with_a_small_copy_of_itself_in_its_header_is_cut():
    small = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    whole = saved("JPEG")
    with_copy = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[2:]
    assert not is_cut(with_copy)
    assert is_cut(with_copy[:-30])
    assert decode_picture(with_copy, "it", shape=None).shape == (60, 40, 3)


def test_a_cmyk_jpeg_is_packed_as_rgb():
    content = io.BytesIO()
    PIL.Image.new("CMYK", (112, 112)).save(content, "JPEG")
    assert picture_form(as_face_jpeg(content.getvalue(), "it")).channels == 3
    face = encode_jpeg(np.zeros((112, 112, 3), np.uint8))
    assert as_face_jpeg(face, "it") is face


def test_a_png_written_here_is_whole():
    np.testing.assert_array_equal(decode_picture(encode_png(STRIPES), "it", shape=None), STRIPES)
