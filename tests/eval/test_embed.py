"""Embeddings: batches, mirrors, and files that are not images."""

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import DataError
from vargfacenet.eval import Embedder
from vargfacenet.formats.images import decode_image, encode_png
from vargfacenet.symbols import get_symbol


@pytest.fixture(scope="module")
def network():
    symbol = get_symbol("vargfacenet", multiplier=0.25, embedding_size=16)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, 3, 112, 112))], for_training=False)
    mx.random.seed(0)
    module.init_params(mx.init.Xavier())
    return (symbol, *module.get_params())


def directly(network, encoded, mirror=False):
    """Embeddings by the plain graph, two images at a time."""
    symbol, args, auxs = network
    images = np.stack([decode_image(image, "image").transpose(2, 0, 1) for image in encoded]).astype(np.float32)
    if mirror:
        images = images[:, :, :, ::-1]
    executor = symbol.bind(mx.cpu(), {**args, "data": mx.nd.array(images)}, aux_states=auxs)
    return executor.forward(is_train=False)[0].asnumpy()


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_embeddings_do_not_depend_on_the_batch(network, pairs_set, batch_size):
    encoded = pairs_set[0][:6]
    plain, mirrored = Embedder(*network, batch_size=batch_size).embed(encoded)
    expected = directly(network, encoded)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(plain, expected, atol=1e-4 * scale)
    np.testing.assert_allclose(mirrored, directly(network, encoded, mirror=True), atol=1e-4 * scale)
    assert not np.allclose(plain, mirrored, atol=1e-3 * scale)


def test_more_images_than_a_batch_are_embedded_and_other_shapes_are_refused(network, pairs_set):
    images = np.stack([decode_image(image, "image").transpose(2, 0, 1) for image in pairs_set[0][:5]])
    embedder = Embedder(*network, batch_size=2)
    found = embedder.embed_batch(list(images))
    np.testing.assert_array_equal(found[2:4], embedder.embed_batch(images[2:4].astype(np.float64)))
    assert len(found) == 5
    for wrong in (images[:, :, :96, :96], images[:0], images[0]):
        with pytest.raises(DataError, match=r"images of shape .*: expected \(n, 3, 112, 112\)"):
            embedder.embed_batch(wrong)


def test_progress_counts_every_image(network, pairs_set):
    done = []
    Embedder(*network, batch_size=4).embed(pairs_set[0][:10], progress=done.append)
    assert done == [4, 4, 2]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"hello", "image 5: 5 bytes that are not an image"),
        (encode_png(np.zeros((64, 64, 3), np.uint8)), "image 5 is 64x64"),
    ],
)
def test_an_image_that_cannot_be_embedded_is_named(network, pairs_set, image, message):
    encoded = [*pairs_set[0][:5], image]
    with pytest.raises(DataError, match=message):
        Embedder(*network, batch_size=4).embed(encoded)
