"""Cache of embeddings: computed once, and again after any change."""

import os

import numpy as np
import pytest

from tests.helpers.embeddings import Counting
from tests.helpers.images import image
from vargfacenet.errors import DataError
from vargfacenet.eval.cache import EmbeddingCache, file_fingerprint, image_fingerprint


@pytest.fixture
def faces():
    return [image(identity, 0) for identity in range(10)]


def embed(cache, embedder, faces, network="network", images="images", **options):
    before = embedder.seen
    found = cache.embed(embedder, network, images, len(faces), faces.__getitem__, **options)
    return found, embedder.seen - before


def test_the_second_time_costs_nothing(tmp_path, faces):
    cache, embedder = EmbeddingCache(tmp_path), Counting()
    (plain, mirrored), first = embed(cache, embedder, faces)
    (again, mirrored_again), second = embed(EmbeddingCache(tmp_path), embedder, faces)
    assert first > 2 * len(faces)
    assert second == 1  # to know the size
    np.testing.assert_array_equal(plain, [face.transpose(2, 0, 1)[:, 0, :2].ravel() for face in faces])
    np.testing.assert_array_equal(mirrored, [face.transpose(2, 0, 1)[:, 0, :-3:-1].ravel() for face in faces])
    np.testing.assert_array_equal(again, plain)
    np.testing.assert_array_equal(mirrored_again, mirrored)


@pytest.mark.parametrize("changed", [{"network": "another"}, {"images": "others"}])
def test_another_network_or_other_images_are_computed(tmp_path, faces, changed):
    cache, embedder = EmbeddingCache(tmp_path), Counting()
    embed(cache, embedder, faces)
    assert embed(cache, embedder, faces, **changed)[1] > 2 * len(faces)


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_a_damaged_file_is_made_again_with_a_remark(tmp_path, faces, damage, caplog):
    cache, embedder = EmbeddingCache(tmp_path), Counting()
    (plain, _), _ = embed(cache, embedder, faces)
    (file,) = tmp_path.glob("*.npy")
    expected = np.array(plain)
    del plain
    content = bytearray(file.read_bytes())
    content[-5] ^= 4
    file.write_bytes(content[:-100] if damage == "cut" else content)
    (again, _), count = embed(cache, embedder, faces)
    assert count > 2 * len(faces)
    assert "is damaged" in caplog.text
    assert "the embeddings are computed again" in caplog.text
    np.testing.assert_array_equal(again, expected)


def test_an_interrupted_run_is_resumed(tmp_path, faces):
    cache, embedder = EmbeddingCache(tmp_path), Counting()
    broken = [*faces[:8], None, None]
    with pytest.raises(AttributeError):
        embed(cache, embedder, broken)
    done = []
    (plain, _), count = embed(cache, embedder, faces, progress=done.append)
    assert count < 2 * len(faces)
    assert sum(done) == len(faces)
    np.testing.assert_array_equal(plain[9], faces[9].transpose(2, 0, 1)[:, 0, :2].ravel())


def test_the_least_recently_used_embeddings_are_deleted(tmp_path, faces):
    cache, embedder = EmbeddingCache(tmp_path, most_bytes=2200), Counting()  # a set is about 600 bytes
    for number in range(3):
        embed(cache, embedder, faces, images=str(number))
        os.utime(max(tmp_path.glob("*.npy"), key=os.path.getmtime), (number, number))
    embed(cache, embedder, faces, images="0")  # used now
    embed(cache, embedder, faces, images="3")
    counts = [embed(cache, embedder, faces, images=str(number))[1] for number in (3, 0, 2, 1)]
    assert counts[:3] == [1, 1, 1]
    assert counts[3] > 1


def test_embeddings_that_are_not_finite_are_not_kept(tmp_path, faces):
    class Broken(Counting):
        def embed_batch(self, images):
            return super().embed_batch(images) * np.nan

    with pytest.raises(DataError, match="NaN or infinity"):
        embed(EmbeddingCache(tmp_path), Broken(), faces)
    assert not list(tmp_path.glob("*.npy"))


def test_fingerprints_tell_images_and_their_order_apart(tmp_path):
    assert image_fingerprint([b"ab", b"c"]) != image_fingerprint([b"a", b"bc"])
    assert image_fingerprint([b"a", b"b"]) != image_fingerprint([b"b", b"a"])
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    first = file_fingerprint([path])
    assert file_fingerprint([path]) == first
    os.utime(path, ns=(1, 1))
    assert file_fingerprint([path]) != first
    with pytest.raises(DataError, match=r"cannot read .*b\.jpg"):
        file_fingerprint([path, tmp_path / "b.jpg"])
