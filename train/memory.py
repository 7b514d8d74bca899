"""The memory that training needs, as arithmetic: bytes by what they are for. Nothing here allocates."""

from __future__ import annotations

from typing import NamedTuple

from vargfacenet.train.classifier.sampling import sample_size
from vargfacenet.train.classifier.shard import BLOCK

FLOAT = 4  # bytes
MOST_NUMBERS = (1 << 31) - 1  # in one array, as MXNet's wheels are built


class Classifier(NamedTuple):
    """Bytes of a classifier on one device.

    Attributes
    ----------
    weights, gradient, optimizer
        The weights, their gradient, and what the optimizer keeps for them.
    logits
        The arrays of the size of the batch times the identities.
    work
        Everything else that an update needs.
    """

    weights: int
    gradient: int
    optimizer: int
    logits: int
    work: int


class Network(NamedTuple):
    """Bytes of a network on one device; activations are everything that the graph computes, including gradients."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int


def dense_classifier(
    num_identities: int, embedding_size: int, batch_size: int, *, bias: bool = False, slots: int = 1
) -> Classifier:
    """Return the bytes of the classifier in the graph, the same on each device.

    MXNet keeps two arrays of the batch times the identities, which forward and backward pass share. With the margin loss
    it also keeps the l2-normalized weights and a gradient to these, each as large as the weights.

    Parameters
    ----------
    num_identities, embedding_size
        Rows and columns.
    batch_size
        Images of this device.
    bias
        True for a plain softmax.
    slots
        Arrays that the optimizer keeps for each parameter.
    """
    weights = FLOAT * num_identities * (embedding_size + bias)
    logits = 2 * FLOAT * batch_size * num_identities
    return Classifier(weights, weights, weights * slots, logits, 0 if bias else 2 * weights)


def sharded_classifier(
    num_identities: int,
    embedding_size: int,
    batch_size: int,
    *,
    shards: int,
    sample_rate: float = 1.0,
    bias: bool = False,
    slots: int = 1,
) -> Classifier:
    """Return the bytes of the largest shard of a classifier outside the graph.

    No gradient is as large as the weights, because rows are updated block by block.

    Parameters
    ----------
    num_identities, embedding_size, bias, slots
        As in `dense_classifier`, all shards together.
    batch_size
        Images of all devices of all workers.
    shards
        Devices of all workers.
    sample_rate
        As the setting of that name.
    """
    rows = -(-num_identities // shards)
    taken = rows if sample_rate >= 1 else max(sample_size(rows, sample_rate), min(batch_size, rows))
    weights = FLOAT * rows * (embedding_size + bias)
    block = FLOAT * min(BLOCK, taken) * embedding_size
    # A block's gradient and a product; where rows are gathered, its weights and its momentum.
    blocks = 2 if sample_rate >= 1 else 3 + slots
    samples = 6 * FLOAT * batch_size * embedding_size  # embeddings of the batch in several forms, and their gradient
    return Classifier(weights, block, weights * slots, FLOAT * batch_size * taken, (blocks - 1) * block + samples)


def largest_dense_array(num_identities: int, embedding_size: int, batch_size: int) -> int:
    """Return how many numbers the largest array of a classifier in the graph has."""
    return num_identities * max(embedding_size, batch_size)


def largest_sharded_array(num_identities: int, embedding_size: int, *, shards: int) -> int:
    """Return how many numbers the largest array of a shard has."""
    return -(-num_identities // shards) * embedding_size


def network(parameter_count: int, activation_bytes: int, *, slots: int = 1) -> Network:
    """Return the bytes of a network on one device; `vargfacenet.train.graph_memory.graph_bytes` returns both arguments."""
    parameters = FLOAT * parameter_count
    return Network(parameters, parameters, parameters * slots, activation_bytes)


def input_bytes(batch_size: int, *image_shape: int) -> int:
    """Return the bytes of a batch of images and its labels."""
    numbers = 1
    for size in image_shape:
        numbers *= size
    return FLOAT * batch_size * (numbers + 1)


def epochs(images: int, batch_size: int, updates: int) -> tuple[float, float]:
    """Return the updates of one epoch, and the epochs of a number of updates."""
    return images / batch_size, updates * batch_size / images
