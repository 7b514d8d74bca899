"""Several training sets as one."""

import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.record_sets import face_iterator
from vargfacenet.data import JoinedSets, RecordSet
from vargfacenet.data.writer import write_records
from vargfacenet.errors import DataError
from vargfacenet.formats.images import encode_jpeg


@pytest.fixture
def other_folder(tmp_path):
    """3 identities x 2 images, none of them in `face_folder`."""
    write_records(
        tmp_path / "other",
        ((identity, encode_jpeg(image(identity + 10, n))) for identity in range(3) for n in range(2)),
    )
    return tmp_path / "other"


def test_identities_of_the_sets_are_disjoint(face_folder, other_folder):
    joined, first, second = JoinedSets([face_folder, other_folder]), RecordSet(face_folder), RecordSet(other_folder)
    assert (len(joined), joined.num_identities) == (24 + 6, 4 + 3)
    assert (joined.height, joined.width) == (112, 112)
    for key in (0, 23, 24, 29):
        records, row, offset = (first, key, 0) if key < 24 else (second, key - 24, 4)
        expected, identity = records.read_face(int(records.keys[row]))
        found, label = joined.read_face(key)
        np.testing.assert_array_equal(found, expected)
        assert label == offset + identity


def test_an_epoch_has_every_image_of_every_set_once(face_folder, other_folder):
    with_labels = face_iterator(JoinedSets([face_folder, other_folder]), batch_size=10, last_update=3)
    batches = [with_labels.next() for _ in range(3)]
    with_labels.close()
    index = np.concatenate([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(30))
    labels = np.concatenate([batch.label[0].asnumpy() for batch in batches])
    assert np.bincount(labels.astype(int)).tolist() == [6] * 4 + [2] * 3


def test_keys_are_located(face_folder, other_folder):
    joined = JoinedSets([other_folder, face_folder])
    places, rows = joined.locate(np.array([0, 5, 6, 29]))
    assert places.tolist() == [0, 0, 1, 1]
    assert rows.tolist() == [0, 5, 0, 23]


def test_a_set_given_twice_is_refused(face_folder):
    with pytest.raises(DataError, match="train.rec is given twice"):
        JoinedSets([face_folder, face_folder / "train.rec"])


def test_no_set_is_refused():
    with pytest.raises(DataError, match="no training set given"):
        JoinedSets([])


def test_sets_of_other_sizes_are_refused(face_folder, other_folder):
    (other_folder / "property").write_text("3,96,112")
    with pytest.raises(DataError, match="holds 96x112 images, .* 112x112; sets that are trained on together"):
        JoinedSets([face_folder, other_folder])


def test_more_identities_than_labels_hold_are_refused(face_folder, other_folder, monkeypatch):
    monkeypatch.setattr("vargfacenet.data.joined.MOST_IDENTITIES", 6)
    with pytest.raises(DataError, match="more than 6 identities together"):
        JoinedSets([face_folder, other_folder])
