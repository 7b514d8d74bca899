"""Bad images in training: counted up to a limit, and replaced alike after a resume and for any number of workers."""

import logging

import numpy as np
import pytest

from tests.helpers.record_sets import face_iterator, offsets, overwrite
from vargfacenet.data import Augmentation, JoinedSets, RecordSet
from vargfacenet.errors import DataError

BAD = (5, 14)
OPTIONS = {"batch_size": 8, "seed": 3, "augment": Augmentation(color_jitter=0.2), "last_update": 9}


@pytest.fixture
def damaged(checksummed):
    """A set of 24 images, two of them bad."""
    for key in BAD:
        overwrite(checksummed, offsets(checksummed)[key] + 100, b"damage")
    return RecordSet(checksummed)


def batches(records, **options):
    iterator = face_iterator(records, **{"max_bad_share": 0.1, **OPTIONS, **options})
    found = [(batch.data[0].asnumpy(), batch.label[0].asnumpy(), batch.index, batch.mirrored) for batch in iterator]
    iterator.close()
    return found, iterator


def test_another_image_replaces_a_bad_one_and_the_others_are_unchanged(damaged, face_folder):
    found, iterator = batches(damaged)
    whole, _ = batches(RecordSet(face_folder))
    rows = {key - 1 for key in BAD}
    assert set(iterator.bad) == rows
    assert all(
        "is damaged: its bytes differ from those that were written" in reason for reason in iterator.bad.values()
    )
    replaced = 0
    for (data, labels, index, mirrored), (expected, whole_labels, whole_index, whole_mirrored) in zip(found, whole):
        for row in range(8):
            if whole_index[row] in rows:
                replaced += 1
                assert index[row] not in rows
                assert labels[row] == damaged.read_face(int(damaged.keys[index[row]]))[1]
            else:
                assert (index[row], labels[row], mirrored[row]) == (
                    whole_index[row],
                    whole_labels[row],
                    whole_mirrored[row],
                )
                np.testing.assert_array_equal(data[row], expected[row])
    assert replaced == 6  # two bad ones in each of three epochs


def test_a_resumed_run_gets_the_batches_of_the_unbroken_one(damaged):
    whole, _ = batches(damaged, threads=2)
    part, _ = batches(damaged, first_update=4, threads=1)
    for (data, labels, *_), (other, other_labels, *_) in zip(whole[4:], part):
        np.testing.assert_array_equal(data, other)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("mix", [0.0, 0.5])
def test_workers_get_their_parts_of_the_same_batches(damaged, mix):
    whole, _ = batches(damaged, mix=mix)
    parts = [batches(damaged, rank=rank, world_size=2, mix=mix)[0] for rank in range(2)]
    for (data, labels, *_), *shared in zip(whole, *parts):
        np.testing.assert_array_equal(np.concatenate([part[0] for part in shared]), data)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in shared]), labels)


def test_each_is_logged_once_with_its_number_and_reason(damaged, caplog):
    with caplog.at_level(logging.WARNING):
        batches(damaged)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    for key in BAD:
        assert any(f"record {key} at byte" in line and "another image replaces it" in line for line in lines)
    assert "bad so far: 2, at most 2" in lines[-1]


def test_more_than_the_share_stop_the_run_and_keep_doing_so(damaged):
    iterator = face_iterator(damaged, **OPTIONS, max_bad_share=0.05)
    message = (
        r"train.rec: record \d+ at byte \d+ is damaged.*; with it 2 of 24 images are bad, and max_bad_share=0.05 allows 1: "
        "'vargfacenet data check' lists all; a larger max_bad_share trains without them"
    )
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            for _ in iterator:
                pass


def test_without_a_share_the_first_stops_the_run(damaged):
    with pytest.raises(DataError, match="with it 1 of 24 images are bad, and max_bad_share=0 allows 0"):
        batches(damaged, max_bad_share=0)


def test_bad_images_of_joined_sets_are_counted_by_their_place_among_all(damaged, face_folder):
    joined = JoinedSets([face_folder, damaged.path])
    _, iterator = batches(joined)
    assert set(iterator.bad) == {24 + key - 1 for key in BAD}


def test_a_set_of_bad_images_alone_does_not_hang(checksummed):
    for key in range(1, 25):
        overwrite(checksummed, offsets(checksummed)[key] + 100, b"damage")
    with pytest.raises(DataError, match="100 images in a row are bad; run 'vargfacenet data check'"):
        batches(RecordSet(checksummed), max_bad_share=1)
