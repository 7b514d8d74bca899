"""Checks of an encoded image before a decoder sees it."""

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from vargfacenet.errors import DataError
from vargfacenet.formats.image_headers import image_form
from vargfacenet.formats.images import as_face_jpeg, decode_image, encode_jpeg, encode_png, is_cut

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
def test_a_header_says_what_the_image_is(encoded, form):
    assert form is None or image_form(encoded) == form
    assert decode_image(encoded, "it", shape=None).shape == (60, 40, 3)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PPM", "ICO"])
def test_other_kinds_never_reach_a_decoder(kind):
    with pytest.raises(DataError, match="not an image: expected JPEG, PNG, BMP or WebP"):
        decode_image(saved(kind), "it", shape=None)


def test_every_prefix_of_an_image_is_refused_or_has_its_form():
    for whole in (saved("JPEG"), saved("PNG"), saved("BMP"), saved("WebP")):
        for length in range(min(len(whole), 700)):
            assert image_form(whole[:length]) in (None, image_form(whole))


def test_a_png_chunk_that_announces_gigabytes_is_never_made_room_for(monkeypatch):
    png = bytearray(saved("PNG"))
    place = png.index(b"IDAT")
    png[place - 4 : place] = struct.pack(">I", 0x70000000)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(DataError, match="not an image: a PNG that is cut, damaged or animated"):
        decode_image(bytes(png), "it", shape=None)


def test_a_png_of_two_headers_or_frames_is_refused():
    png = saved("PNG")
    for more in (chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)), chunk(b"acTL", bytes(8))):
        with pytest.raises(DataError, match="cut, damaged or animated"):
            decode_image(png[:33] + more + png[33:], "it", shape=None)


def test_a_png_with_a_flipped_bit_is_refused():
    png = bytearray(saved("PNG"))
    png[-20] ^= 1
    with pytest.raises(DataError, match="cut, damaged or animated"):
        decode_image(bytes(png), "it", shape=None)


def test_a_jpeg_of_hundreds_of_scans_is_refused(monkeypatch):
    jpeg = saved("JPEG", progressive=True)
    scan = jpeg.rindex(b"\xff\xda")
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(DataError, match="more than 64 scans"):
        decode_image(jpeg[:-2] + jpeg[scan:-2] * 80 + jpeg[-2:], "it", shape=None)


def test_a_cut_jpeg_with_a_small_copy_of_itself_in_its_header_is_cut():
    small = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    whole = saved("JPEG")
    with_copy = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[2:]
    assert not is_cut(with_copy)
    assert is_cut(with_copy[:-30])
    assert decode_image(with_copy, "it", shape=None).shape == (60, 40, 3)


def test_a_cmyk_jpeg_is_packed_as_rgb():
    content = io.BytesIO()
    PIL.Image.new("CMYK", (112, 112)).save(content, "JPEG")
    assert image_form(as_face_jpeg(content.getvalue(), "it")).channels == 3
    face = encode_jpeg(np.zeros((112, 112, 3), np.uint8))
    assert as_face_jpeg(face, "it") is face


def test_a_png_written_here_is_whole():
    np.testing.assert_array_equal(decode_image(encode_png(STRIPES), "it", shape=None), STRIPES)


def video(size, seed=0):
    """Bytes as a phone writes them behind a JPEG; those of markers are among them."""
    noise = np.random.RandomState(seed).bytes(size)
    return b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + noise + b"\xff\xda" * 100 + noise + b"\xff\xd8\xff\xda\0"


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_the_end_of_a_jpeg_does_not_count(progressive):
    whole = saved("JPEG", progressive=progressive, quality=95)
    for behind in (video(1 << 16), b"\0" * 500, b"\r\n", saved("JPEG"), whole[:-40]):
        assert not is_cut(whole + behind)
        np.testing.assert_array_equal(
            decode_image(whole + behind, "it", shape=None), decode_image(whole, "it", shape=None)
        )


def test_a_jpeg_is_packed_without_what_follows_its_end():
    face = encode_jpeg(np.zeros((112, 112, 3), np.uint8))
    assert as_face_jpeg(face + video(1 << 16), "it") == face


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_images_of_every_kind_are_turned_as_their_exif_data_say(kind, orientation):
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    steps = np.zeros((60, 40, 3), np.uint8)
    steps[:20, :10], steps[40:, :10], steps[:20, 30:] = 255, 160, 80
    content = io.BytesIO()
    options = {"lossless": True} if kind == "WebP" else {"quality": 95} if kind == "JPEG" else {}
    PIL.Image.fromarray(steps).save(content, kind, exif=exif, **options)
    upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content.getvalue()))).convert("RGB"))
    np.testing.assert_allclose(decode_image(content.getvalue(), "it", shape=None), upright, atol=12)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x63\0\0\0",
    ],
)
def test_damaged_exif_data_of_a_webp_turn_nothing(exif):
    content = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(STRIPES)).save(content, "WebP", lossless=True, exif=exif or b"x")
    assert decode_image(content.getvalue(), "it", shape=None).shape == (60, 40, 3)
