"""Damaged or hostile records: each is found, and nothing else is refused."""

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.helpers.images import image
from tests.helpers.record_sets import offsets, overwrite, write_plain
from vargfacenet.data import RecordSet
from vargfacenet.data.check import check_records
from vargfacenet.errors import DataError
from vargfacenet.formats.images import encode_jpeg, encode_png


def test_a_set_without_checksums_is_read(copy):
    assert not RecordSet(copy).has_checksums
    assert check_records(copy).bad == []


@pytest.mark.parametrize("place", [8, 12, 16, 24, 28, 40, 400])
def test_a_flipped_bit_in_a_record_with_a_checksum_is_found(checksummed, place):
    offset = offsets(checksummed)[5] + place
    content = (checksummed / "train.rec").read_bytes()
    overwrite(checksummed, offset, bytes([content[offset] ^ 4]))
    records = RecordSet(checksummed)
    assert records.has_checksums
    with pytest.raises(DataError, match=r"record 5 at byte \d+ is damaged: (its bytes differ from|it has no checksum)"):
        records.read_face(5)
    assert [key for key, _ in check_records(checksummed).bad] == [5]


def test_an_index_that_exchanges_two_records_is_found_by_checksums(checksummed):
    place = offsets(checksummed)
    place[2], place[5] = place[5], place[2]  # of one identity, so that labels say nothing
    (checksummed / "train.idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in place.items()))
    with pytest.raises(DataError, match="was written as record 5: the index is wrong"):
        RecordSet(checksummed).read_face(2)


def test_a_label_that_its_identity_record_contradicts_is_refused(copy):
    overwrite(copy, offsets(copy)[9] + 12, struct.pack("<f", 3))
    with pytest.raises(DataError, match="record 9: label 3, but it is one of the images of identity 1"):
        RecordSet(copy).read_face(9)
    assert [key for key, _ in check_records(copy).bad] == [9]


def test_a_damaged_identity_record_affects_only_its_own_images(copy):
    overwrite(copy, offsets(copy)[26] + 32, struct.pack("<ff", 3, 400))  # of identity 1, whose images are 7..12
    overwrite(copy, offsets(copy)[20] + 12, struct.pack("<f", 2))  # of identity 3
    records = RecordSet(copy)
    for key in set(range(1, 25)) - {20}:
        records.read_face(key)
    with pytest.raises(DataError, match="record 20: label 2, but"):
        records.read_face(20)


def test_identity_records_may_be_in_another_order_than_labels(tmp_path):
    images = {key: (float(2 - (key - 1) // 2), encode_jpeg(image(2 - (key - 1) // 2, key))) for key in range(1, 7)}
    identities = {7: ((1.0, 3.0), b""), 8: ((3.0, 5.0), b""), 9: ((5.0, 7.0), b"")}
    folder = write_plain(tmp_path / "set", {0: ((7.0, 10.0), b""), **images, **identities}, "3,112,112")
    assert [RecordSet(folder).read_face(key)[1] for key in range(1, 7)] == [2, 2, 1, 1, 0, 0]
    assert check_records(folder).bad == []


def test_identities_that_share_images_or_a_label_are_listed(copy):
    place = offsets(copy)
    overwrite(copy, place[26] + 32, struct.pack("<ff", 1, 7))  # the images of identity 0
    for key in range(19, 25):  # so many that labels are taken to be in another order than identities
        overwrite(copy, place[key] + 12, struct.pack("<f", 2))
    bad = dict(check_records(copy).bad)
    assert "images that record 25 also has" in bad[26]
    assert "of label 2, which record 27 also has" in bad[28]


def test_a_property_that_contradicts_record_0_is_refused(copy):
    (copy / "property").write_text("5,112,112")
    with pytest.raises(DataError, match="property states 5 identities, record 0 of train.rec announces 4"):
        RecordSet(copy)


def test_an_index_that_lists_a_record_twice_or_more_than_there_are_is_refused(copy):
    index, place = (copy / "train.idx").read_text(), offsets(copy)
    (copy / "train.idx").write_text(index.replace(f"5\t{place[5]}\n", f"5\t{place[6]}\n"))
    with pytest.raises(DataError, match="has two records at one offset"):
        RecordSet(copy)
    (copy / "train.idx").write_text(index + f"40\t{place[5] + 4}\n")
    with pytest.raises(DataError, match="lists 24 and 4 and 1 more records; the index belongs to another file"):
        RecordSet(copy)


def test_an_index_far_larger_than_its_records_is_not_read(copy):
    with open(copy / "train.idx", "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"train.idx is larger than \d+ bytes"):
        RecordSet(copy)


def png(width, height, bits=8, colour=2):
    """Return the beginning of a PNG file that announces a size and has no pixel."""
    return encode_png(np.zeros((1, 1, 3), np.uint8))[:16] + struct.pack(">IIBB", width, height, bits, colour) + bytes(3)


def test_an_image_that_announces_gigapixels_is_refused_by_its_header(tmp_path):
    jpeg = bytearray(encode_jpeg(image(0, 0)))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    records = RecordSet(write_plain(tmp_path / "set", {0: (0.0, png(60000, 60000)), 1: (0.0, bytes(jpeg))}))
    for key in (0, 1):
        with pytest.raises(DataError, match=f"record {key} is 60000x60000, 3600.0 megapixels; expected at most 40"):
            records.read_face(key)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cv2.imencode(".png", np.zeros((112, 112, 4), np.uint8))[1].tobytes(), "PNG of 4 channels of 8 bits"),
        (cv2.imencode(".png", np.zeros((112, 112, 3), np.uint16))[1].tobytes(), "PNG of 3 channels of 16 bits"),
    ],
)
def test_an_image_that_conversion_to_rgb_would_change_is_refused(tmp_path, content, message):
    records = RecordSet(write_plain(tmp_path / "set", {0: (0.0, content)}))
    with pytest.raises(DataError, match=f"{message}, expected RGB of 8 bits"):
        records.read_face(0)


def test_a_cmyk_image_is_refused(tmp_path):
    content = io.BytesIO()
    PIL.Image.new("CMYK", (112, 112)).save(content, "JPEG")
    records = RecordSet(write_plain(tmp_path / "set", {0: (0.0, content.getvalue())}))
    with pytest.raises(DataError, match="JPEG of 4 channels of 8 bits"):
        records.read_face(0)


def test_a_grey_image_is_read_as_three_equal_channels_and_counted(tmp_path):
    grey = cv2.imencode(".jpg", np.full((112, 112), 90, np.uint8))[1].tobytes()
    folder = write_plain(tmp_path / "set", {0: (0.0, grey), 1: (1.0, encode_jpeg(image(1, 0)))})
    assert np.unique(RecordSet(folder).read_face(0)[0]).tolist() == [90]
    check = check_records(folder)
    assert (check.grey, check.bad) == (1, [])


def test_a_record_of_endless_parts_is_refused(tmp_path):
    folder = write_plain(tmp_path / "set", {0: (0.0, b"x"), 1: (1.0, b"y")})
    part = struct.pack("<II", 0xCED7230A, 2 << 29)
    content = struct.pack("<II", 0xCED7230A, 1 << 29) + part * 100_000
    (folder / "train.rec").write_bytes((folder / "train.rec").read_bytes() + content)
    place = (folder / "train.rec").stat().st_size - len(content)
    (folder / "train.idx").write_text(f"0\t0\n1\t{place}\n")
    with pytest.raises(DataError, match="record 1 at byte .* too large for a face"):
        RecordSet(folder)


def test_a_file_that_is_cut_while_it_is_open_is_reported(copy):
    records = RecordSet(copy)
    with open(copy / "train.rec", "r+b") as file:
        file.truncate(offsets(copy)[5] + 100)
    with pytest.raises(DataError, match="record 5 at byte .* has been truncated since it was opened"):
        records.read_face(5)
    with pytest.raises(DataError, match="record 9 at byte .* is cut"):
        records.read_face(9)


def test_check_reports_damage_in_a_jpeg_that_decodes(copy):
    overwrite(copy, offsets(copy)[5] + 900, bytes(64))
    RecordSet(copy).read_face(5)  # OpenCV decodes it without an error
    ((key, reason),) = check_records(copy).bad
    assert key == 5
    assert reason.startswith("a JPEG that decodes but is damaged: Corrupt JPEG data")


def test_an_index_that_exchanges_records_of_a_numbered_set_is_found(copy):
    place = offsets(copy)
    place[2], place[5] = place[5], place[2]
    (copy / "train.idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in place.items()))
    assert {key for key, _ in check_records(copy).bad} == {2, 5}
    with pytest.raises(DataError, match="record 2 at byte .* has the number 5: it is damaged, or the index is wrong"):
        RecordSet(copy).read_face(2)


def test_other_record_numbers_are_accepted(copy):
    for offset in offsets(copy).values():
        overwrite(copy, offset + 16, struct.pack("<Q", offset))
    assert check_records(copy).bad == []
