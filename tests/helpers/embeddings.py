"""Embeddings that tests make, and an embedder that counts."""

import numpy as np

from vargfacenet.eval.embed import ImageEmbedder


class Counting(ImageEmbedder):
    """Embed an image as its corner pixels, and count the images."""

    batch_size = 4

    def __init__(self):
        self.seen = 0

    def embed_batch(self, images):
        self.seen += len(images)
        return images[:, :, 0, :2].reshape(len(images), -1)


def make_pair_embeddings(pairs, noise, seed=0, size=16):
    """Return random embeddings (2 x pairs, size) of pairs in order, and which pairs are of one identity (pairs,)."""
    random = np.random.RandomState(seed)
    is_same = np.arange(pairs) // 5 % 2 == 0
    first = random.normal(size=(pairs, size))
    second = np.where(is_same[:, None], first, random.normal(size=(pairs, size))) + noise * random.normal(
        size=(pairs, size)
    )
    embeddings = np.stack([first, second], axis=1).reshape(2 * pairs, size)
    return embeddings * random.uniform(0.5, 20, (2 * pairs, 1)), is_same
