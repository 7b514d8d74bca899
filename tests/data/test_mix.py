"""Mixed images consist of images of the batch alone."""

import numpy as np
import pytest

from tests.helpers.record_sets import face_iterator
from vargfacenet.data import JoinedSets
from vargfacenet.data.mix import mix_faces, plan_mix


def batch(count=40):
    """Images of one value each, 0, 1, 2 ..."""
    return np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 3, 16, 24)).copy()


def test_every_mixed_image_is_a_blend_or_a_rectangle_of_two():
    images = batch()
    mix_faces(images, plan_mix(images.shape, 1.0, np.random.default_rng(0)))
    blends = rectangles = 0
    for own, image in enumerate(images):
        values = np.unique(image)
        if len(values) == 1:
            other = values[0]
            assert 0 <= other <= 39  # a blend, or its own partner
            blends += other != own
        else:
            (other,) = set(values) - {own}
            assert other == int(other)
            rows, columns = np.nonzero(image[0] == other)
            covered = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert covered == len(rows)  # one rectangle, the same in each channel
            assert (image == image[:1]).all()
            assert 0.25**2 * 0.8 < covered / (16 * 24) <= 0.75**2
            rectangles += 1
    assert blends > 10
    assert rectangles > 10


def test_a_blend_is_nearer_to_its_own_image():
    images, own = batch(2), np.array([0.0, 1.0])
    for seed in range(20):
        mixed = images.copy()
        mix_faces(mixed, plan_mix(mixed.shape, 1.0, np.random.default_rng(seed)))
        for row, image in enumerate(mixed):
            if len(np.unique(image)) == 1:
                assert abs(image[0, 0, 0] - own[row]) <= 0.5


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_images_are_mixed_with_the_given_probability(share):
    images = batch(400)
    mix_faces(images, plan_mix(images.shape, share, np.random.default_rng(1)))
    changed = (images != batch(400)).any(axis=(1, 2, 3)).mean()
    assert abs(changed - share) < 0.08


def test_a_batch_does_not_depend_on_the_first_update(face_folder):
    found = []
    for first in (0, 2):
        iterator = face_iterator(
            JoinedSets([face_folder]), batch_size=6, seed=4, mix=1.0, first_update=first, last_update=4
        )
        found.append([iterator.next().data[0].asnumpy() for _ in range(first, 4)])
        iterator.close()
    np.testing.assert_array_equal(found[0][2:], found[1])
    plain = face_iterator(JoinedSets([face_folder]), batch_size=6, seed=4, last_update=1)
    assert not np.array_equal(plain.next().data[0].asnumpy(), found[0][0])
    plain.close()
