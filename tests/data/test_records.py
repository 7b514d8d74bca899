"""Layout of training sets: written, read, and damaged."""

import struct

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.record_sets import offsets, overwrite, write_plain
from vargfacenet.data import RecordSet
from vargfacenet.data.check import check_records
from vargfacenet.data.writer import faces_of_folder, write_records
from vargfacenet.errors import DataError
from vargfacenet.formats.images import encode_jpeg, encode_png


def test_a_written_set_reads_back(face_folder):
    records = RecordSet(face_folder)
    assert (len(records), records.num_identities, records.height, records.width) == (24, 4, 112, 112)
    assert records.keys.tolist() == list(range(1, 25))
    for key, (identity, number) in zip(records.keys, [(i, n) for i in range(4) for n in range(6)]):
        found, label = records.read_face(int(key))
        assert label == identity
        assert np.abs(found.astype(int) - image(identity, number)).mean() < 12


def test_identity_records_hold_the_range_of_their_images(face_folder):
    records = RecordSet(face_folder)
    ranges = [records.read(int(key)).labels.tolist() for key in records.identity_keys]
    assert ranges == [[1, 7], [7, 13], [13, 19], [19, 25]]
    assert records.read(0).labels.tolist() == [25, 29]


def test_mxnet_reads_what_was_written(face_folder):
    reader = mx.recordio.MXIndexedRecordIO(str(face_folder / "train.idx"), str(face_folder / "train.rec"), "r")
    header, content = mx.recordio.unpack(reader.read_idx(0))
    assert header.flag == 2
    assert header.label.tolist() == [25.0, 29.0]
    assert content == b""
    header, content = mx.recordio.unpack_img(reader.read_idx(8))
    assert header.label == 1.0
    assert content.shape == (112, 112, 3)


@pytest.mark.parametrize("label", [lambda identity: float(identity), lambda identity: (float(identity), 7.0)])
def test_a_set_without_index_record_has_all_its_images(tmp_path, label):
    images = {key: (label(key % 2), encode_jpeg(image(key % 2, key))) for key in range(5)}
    records = RecordSet(write_plain(tmp_path / "set", images))
    assert records.keys.tolist() == [0, 1, 2, 3, 4]
    assert [records.read_face(key)[1] for key in range(5)] == [0, 1, 0, 1, 0]


def test_a_set_without_property_counts_its_labels(tmp_path):
    images = {key: (float(key), encode_jpeg(image(key, 0))) for key in range(3)}
    assert RecordSet(write_plain(tmp_path / "set", images, properties=None)).num_identities == 3


def test_a_record_that_holds_the_magic_number_reads_whole(tmp_path):
    magic = struct.pack("<I", 0xCED7230A)
    content = b"\x00" * 8 + magic + b"\x01" * 8 + magic * 2 + b"tail"
    records = RecordSet(write_plain(tmp_path / "set", {0: (0.0, content), 1: (1.0, b"x")}))
    assert records.read(0).image == content


def test_a_cut_file_is_refused_when_opened(copy):
    size = (copy / "train.rec").stat().st_size
    with open(copy / "train.rec", "r+b") as file:
        file.truncate(size // 2)
    with pytest.raises(DataError, match=rf"train.rec is cut: it ends at byte {size // 2}, .* copy the file again"):
        RecordSet(copy)


def test_a_file_cut_within_its_last_record_is_refused_when_opened(copy):
    with open(copy / "train.rec", "r+b") as file:
        file.truncate(offsets(copy)[28] + 12)
    with pytest.raises(DataError, match="record 28 at byte .* is cut"):
        RecordSet(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\0\0", "does not start like a record"),
        (struct.pack("<II", 0xCED7230A, 4), "too short for a header"),
        (struct.pack("<II", 0xCED7230A, (1 << 29) - 1), "is cut: it announces 536870911 bytes"),
        (struct.pack("<II", 0xCED7230A, 3 << 29 | 40), "continuation flag 3"),
        (struct.pack("<III", 0xCED7230A, 40, 1 << 30), "announces 1073741824 labels"),
    ],
)
def test_a_damaged_record_is_reported_with_its_offset(copy, content, message):
    place = offsets(copy)[5]
    overwrite(copy, place, content)
    with pytest.raises(DataError, match=f"record 5 at byte {place}.*{message}"):
        RecordSet(copy).read_face(5)


@pytest.mark.parametrize(
    ("label", "message"), [(9.0, "label 9.0"), (-1.0, "label -1.0"), (0.5, "label 0.5"), (float("nan"), "label nan")]
)
def test_a_label_out_of_range_is_refused(tmp_path, label, message):
    records = RecordSet(write_plain(tmp_path / "set", {0: (label, encode_jpeg(image(0, 0)))}))
    with pytest.raises(DataError, match=f"{message}, expected a whole number in 0..1"):
        records.read_face(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", "8 bytes that are not an image"),
        (b"", "0 bytes"),
        (encode_png(np.zeros((50, 60, 3), np.uint8)), "60x50"),
    ],
)
def test_a_record_that_is_not_a_face_is_refused(tmp_path, content, message):
    records = RecordSet(write_plain(tmp_path / "set", {0: (0.0, content)}))
    with pytest.raises(DataError, match=f"record 0.*{message}"):
        records.read_face(0)


@pytest.mark.parametrize(
    "text", ["", "1\n", "a\tb\n", "1\t-5\n", "1\t0\n1\t4\n", "99999999999999999999999\t0\n", "\0\1\n"]
)
def test_a_malformed_index_is_refused(copy, text):
    (copy / "train.idx").write_text(text)
    with pytest.raises(DataError, match="train.idx is (not an index|empty)"):
        RecordSet(copy)


def test_an_index_of_another_file_is_refused(copy):
    lines = (copy / "train.idx").read_text().splitlines(keepends=True)
    (copy / "train.idx").write_text("".join(lines[:10]))
    with pytest.raises(DataError, match="announces 24 images and 4 identities, the index lists 9 and 0"):
        RecordSet(copy)


@pytest.mark.parametrize("text", ["", "4", "4,112", "4,112,x", "0,112,112"])
def test_a_malformed_property_file_is_refused(copy, text):
    (copy / "property").write_text(text)
    with pytest.raises(DataError, match="expected identities,height,width"):
        RecordSet(copy)


def test_reading_from_a_closed_set_is_refused(face_folder):
    records = RecordSet(face_folder)
    records.close()
    with pytest.raises(DataError, match=r"train\.rec is closed"):
        records.read(1)


@pytest.mark.parametrize("name", ["train.rec", "train.idx"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(DataError, match=name):
        RecordSet(copy)


def test_check_finds_no_fault_in_an_intact_set(face_folder):
    check = check_records(face_folder)
    assert (check.images, check.identities, check.shape, check.has_index, check.bad) == (24, 4, (112, 112), True, [])
    assert check.per_identity.tolist() == [6, 6, 6, 6]


def test_check_lists_every_bad_record(copy):
    place = offsets(copy)
    overwrite(copy, place[3], b"\0\0\0\0")  # no record
    overwrite(copy, place[7] + 32, b"\0" * 64)  # no image
    overwrite(copy, place[9] + 12, struct.pack("<f", 77))  # no such identity
    overwrite(copy, place[11 + 1] - 8, b"\0" * 8)  # JPEG 11 without its end
    overwrite(copy, place[26] + 32, struct.pack("<ff", 3, 400))  # identity record of images that are not there
    bad = dict(check_records(copy).bad)
    assert set(bad) == {3, 7, 9, 11, 26}
    assert "does not start like a record" in bad[3]
    assert "not an image" in bad[7]
    assert "label 77.0" in bad[9]
    assert "cut before its end" in bad[11]
    assert "3..399" in bad[26]


def test_check_lists_the_records_lost_by_truncation(copy):
    with open(copy / "train.rec", "r+b") as file:
        file.truncate(offsets(copy)[20] + 4)
    bad = dict(check_records(copy).bad)
    assert set(bad) == set(range(20, 29))


def test_identities_must_come_in_order(tmp_path):
    face = encode_jpeg(image(0, 0))
    with pytest.raises(DataError, match="identity 2 follows 0"):
        write_records(tmp_path / "set", [(0, face), (2, face)])
    assert not (tmp_path / "set").exists()


def test_a_set_is_never_overwritten(face_folder):
    with pytest.raises(DataError, match="already exists"):
        write_records(face_folder, [(0, encode_jpeg(image(0, 0)))])


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for identity, name in enumerate(["anna", "bert"]):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            (folder / name / f"{number}.jpg").write_bytes(encode_jpeg(image(identity, number)))
    return folder


def test_a_folder_per_identity_becomes_a_set(images, tmp_path):
    (images / "bert" / "2.png").write_bytes(encode_png(image(1, 2)))
    (images / ".DS_Store").write_bytes(b"")
    assert write_records(tmp_path / "set", faces_of_folder(images)) == (5, 2)
    records = RecordSet(tmp_path / "set")
    assert [records.read_face(key)[1] for key in range(1, 6)] == [0, 0, 1, 1, 1]
    assert records.read(1).image == (images / "anna" / "0.jpg").read_bytes()


def test_other_sizes_are_scaled_only_when_asked(images):
    (images / "anna" / "big.png").write_bytes(encode_png(np.zeros((200, 150, 3), np.uint8)))
    with pytest.raises(DataError, match=r"big.png is 150x200 pixels, .* --resize"):
        list(faces_of_folder(images))
    assert len(list(faces_of_folder(images, resize=True))) == 5


def test_an_identity_without_image_is_refused(images):
    (images / "carl").mkdir()
    with pytest.raises(DataError, match="carl holds no image"):
        list(faces_of_folder(images))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"hello", "notes.txt is not an image"),
        ("broken.jpg", b"hello", "broken.jpg: 5 bytes that are not an image"),
        ("half.jpg", encode_jpeg(image(0, 0))[:2000], "half.jpg is a JPEG that is cut"),
        ("empty.jpg", b"", "empty.jpg: 0 bytes"),
    ],
)
def test_a_file_that_is_not_an_image_is_refused(images, name, content, message):
    (images / "anna" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(faces_of_folder(images))


def test_loose_images_and_empty_folders_are_refused(tmp_path, images):
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "it holds nothing"), (images / "anna", "it holds the file 0.jpg")):
        with pytest.raises(DataError, match=message):
            list(faces_of_folder(folder))
    with pytest.raises(DataError, match="no folder of images"):
        list(faces_of_folder(tmp_path / "nowhere"))
