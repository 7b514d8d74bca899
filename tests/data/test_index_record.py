"""Sets of other packers: unsorted lists, omitted images, numbers above 2^24, and property files of two lines."""

import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.record_sets import face_iterator, write_plain
from vargfacenet.data import RecordSet
from vargfacenet.data.check import check_records
from vargfacenet.data.index_record import divide
from vargfacenet.data.layout import identities_by_key
from vargfacenet.errors import DataError
from vargfacenet.formats.images import encode_jpeg


def packed(folder, labels, properties="3,112,112", *, leave_out=(), header=None):
    """A set with an identity record for each run of equal labels."""
    runs = []
    for key, label in enumerate(labels, 1):
        if key == 1 or labels[key - 2] != label:
            runs.append([key, key])
        runs[-1][1] = key + 1
    end = len(labels) + 1
    records = {0: (tuple(map(float, header or (end, end + len(runs)))), b"")}
    faces = {key: ((float(label), 1.0), encode_jpeg(image(label, key))) for key, label in enumerate(labels, 1)}
    records.update({key: face for key, face in faces.items() if key not in leave_out})
    records.update({end + place: ((float(a), float(b)), b"") for place, (a, b) in enumerate(runs)})
    return write_plain(folder, records, properties)


SORTED = [0] * 8 + [1] * 8 + [2] * 8


@pytest.mark.parametrize("properties", ["3,112,112", None])
@pytest.mark.parametrize("labels", [[0, 1, 2] * 8, [*SORTED[1:], 0]])
def test_a_split_identity_is_read_by_the_labels_of_its_images(tmp_path, caplog, labels, properties):
    folder = packed(tmp_path / "set", labels, properties)
    records = RecordSet(folder)
    assert records.num_identities == 3
    assert [records.read_face(key)[1] for key in range(1, 25)] == labels
    assert f"there are {len(records.identity_keys)} identity records for 3 identities" in caplog.text
    assert "sort the list by label and pack the set again" in caplog.text
    assert check_records(folder).bad == []


def test_an_image_that_was_left_out_is_named_and_counts_as_bad(tmp_path, caplog):
    folder = packed(tmp_path / "set", SORTED, leave_out=(11,))
    records = RecordSet(folder)
    assert "the index lacks 1 of 27 records, records 11: they count as bad images" in caplog.text
    assert len(records) == 24
    with pytest.raises(DataError, match="record 11 is missing from the index"):
        records.read_face(11)
    assert check_records(folder).bad == [(11, "is missing from the index")]
    batches = face_iterator(records, batch_size=24, last_update=1, max_bad_share=0.1)
    assert len(list(batches)) == 1
    assert batches.bad == {10: f"{folder}/train.rec: record 11 is missing from the index"}


def test_many_images_left_out_are_named_and_refused(tmp_path):
    folder = packed(tmp_path / "set", SORTED, leave_out=range(3, 12))
    with pytest.raises(DataError, match=r"belongs to another file; records 3, 4, 5, 6, 7 and 4 more are missing"):
        RecordSet(folder)


def test_a_wrong_record_0_is_warned_about_where_the_other_records_are_consistent(tmp_path, caplog):
    records = RecordSet(packed(tmp_path / "set", SORTED, "360232,112,112", header=(17091658, 17451890)))
    assert "announces 17091657 images and 360232 identities, which is wrong: there are 24 and 3" in caplog.text
    assert (len(records), records.identity_keys.tolist(), records.num_identities) == (24, [25, 26, 27], 360232)
    assert [records.read_face(key)[1] for key in records.keys.tolist()] == SORTED


def test_a_wrong_record_0_is_refused_where_the_other_records_are_not_consistent(tmp_path):
    folder = packed(tmp_path / "set", SORTED, header=(17091658, 17451890))
    lines = (folder / "train.idx").read_text().splitlines(keepends=True)
    (folder / "train.idx").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match="announces 17091657 images and 360232 identities, the index lists 27|lists 26"):
        RecordSet(folder)


@pytest.mark.parametrize("images", [(1 << 24) - 1, (1 << 24) + 2, 17_091_657])
def test_numbers_of_records_that_float32_rounds_are_found_by_the_records(images):
    identities = 5
    keys = np.arange(1 + images + identities)
    stated = [int(np.float32(number)) for number in (images + 1, images + 1 + identities)]
    found = divide(keys, *stated, lambda key: 1 <= key <= images, None, "set")
    assert (int(found.keys[0]), int(found.keys[-1])) == (1, images)
    assert found.identity_keys.tolist() == list(range(images + 1, images + 1 + identities))
    assert not found.is_header_wrong


def test_rounded_ranges_of_identities_are_ignored():
    first = (1 << 24) - 4
    ranges = [(int(np.float32(a)), int(np.float32(a + 3))) for a in (first - 3, first, first + 3, first + 6)]
    keys = np.arange(first - 3, first + 9)
    table = identities_by_key(keys, ranges, lambda key: (key - keys[0]) // 3)
    assert table.tolist() == [0, 0, 0, 1, 1, 1] + [-1] * 6


def test_a_property_may_state_the_number_of_images_in_a_second_line(tmp_path, caplog):
    assert RecordSet(packed(tmp_path / "set", SORTED, "3,112,112\n24\n")).num_identities == 3
    assert not caplog.text
    assert RecordSet(packed(tmp_path / "other", SORTED, "3,112,112\r\n30\r\n")).num_identities == 3
    assert "property states 30 images, train.rec holds 24" in caplog.text


@pytest.mark.parametrize("text", ["3,112,112\nx", "3,112,112\n24\n24", "3,112,112\n-1"])
def test_other_second_lines_are_refused(tmp_path, text):
    with pytest.raises(DataError, match="expected identities,height,width"):
        RecordSet(packed(tmp_path / "set", SORTED, text))


def test_fewer_identities_than_labels_in_a_property_are_still_refused(tmp_path):
    with pytest.raises(DataError, match="property states 2 identities, record 0 of train.rec announces 3"):
        RecordSet(packed(tmp_path / "set", SORTED, "2,112,112"))
