"""What training takes in memory, as arithmetic: bytes by what they are for. Nothing here allocates."""

import collections

from vargfacenet.train.classifier.sampling import sample_size
from vargfacenet.train.classifier.shard import BLOCK

_FLOAT = 4  # bytes
MOST_NUMBERS = (1 << 31) - 1  # in one array, as MXNet's wheels are built

Classifier = collections.namedtuple("Classifier", "weights gradient momentum logits work")
Classifier.__doc__ = """Bytes of a classifier on one device: weights, their gradient, their momentum; the arrays of the size
of batch times identities; and all else that an update takes."""

Network = collections.namedtuple("Network", "parameters gradients momentum activations")
Network.__doc__ = "Bytes of a network on one device; activations are all that the graph computes, gradients included."


def dense_classifier(num_identities, embedding_size, batch_size, *, bias=False, momentum=True):
    """The classifier in the graph, the same on each device.

    MXNet keeps two arrays of the batch times the identities, as forward and backward pass share them. With the margin loss
    it keeps the directions of the weights and a gradient to these, as large as the weights.

    Parameters
    ----------
    num_identities, embedding_size : int
        Rows and columns.
    batch_size : int
        Images of this device.
    bias : bool
        Whether it is a plain softmax.
    momentum : bool
        Whether the optimizer has one.

    Returns
    -------
    Classifier
    """
    weights = _FLOAT * num_identities * (embedding_size + bias)
    logits = 2 * _FLOAT * batch_size * num_identities
    return Classifier(weights, weights, weights * momentum, logits, 0 if bias else 2 * weights)


def sharded_classifier(
    num_identities, embedding_size, batch_size, *, shards, sample_rate=1.0, bias=False, momentum=True
):
    """The largest shard of a classifier outside the graph.

    Parameters
    ----------
    num_identities, embedding_size, bias, momentum
        As in `dense_classifier`, all shards together.
    batch_size : int
        Images of all devices of all workers.
    shards : int
        Devices of all workers.
    sample_rate : float
        As the setting of that name.

    Returns
    -------
    Classifier
        There is no gradient as large as the weights: rows are updated block by block.
    """
    rows = -(-num_identities // shards)
    taken = rows if sample_rate >= 1 else max(sample_size(rows, sample_rate), min(batch_size, rows))
    weights = _FLOAT * rows * (embedding_size + bias)
    block = _FLOAT * min(BLOCK, taken) * embedding_size
    # A block's gradient and a product; where rows are gathered, its weights and its momentum.
    blocks = 2 if sample_rate >= 1 else 3 + momentum
    samples = 6 * _FLOAT * batch_size * embedding_size  # embeddings of the batch in several forms, and their gradient
    return Classifier(
        weights, block, weights * bool(momentum), _FLOAT * batch_size * taken, (blocks - 1) * block + samples
    )


def largest_dense_array(num_identities, embedding_size, batch_size):
    """Numbers in the largest array of a classifier in the graph (int)."""
    return num_identities * max(embedding_size, batch_size)


def largest_sharded_array(num_identities, embedding_size, *, shards):
    """Numbers in the largest array of a shard (int)."""
    return -(-num_identities // shards) * embedding_size


def network(parameter_count, activation_bytes, *, momentum=True):
    """A network on one device, `activation_bytes` being what `vargfacenet.train.plan.graph_bytes` says."""
    parameters = _FLOAT * parameter_count
    return Network(parameters, parameters, parameters * bool(momentum), activation_bytes)


def input_bytes(batch_size, *image_shape):
    """A batch of images and its labels."""
    numbers = 1
    for size in image_shape:
        numbers *= size
    return _FLOAT * batch_size * (numbers + 1)


def epochs(images, batch_size, updates):
    """Updates of one pass over the images, and passes of a number of updates (two floats)."""
    return images / batch_size, updates * batch_size / images
