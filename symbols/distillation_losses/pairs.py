"""Pairs of the samples in a batch, and their distances, for relational losses."""

from __future__ import annotations

import mxnet as mx


def off_diagonal(embedding: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return 1 for each pair of two samples and 0 for a sample with itself: (N, anything) -> (N, N)."""
    places = mx.sym.contrib.arange_like(embedding, axis=0)
    return mx.sym.broadcast_not_equal(mx.sym.expand_dims(places, axis=1), mx.sym.expand_dims(places, axis=0))


def squared_distances(embedding: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return the squared distance of each pair: (N, embedding_size) -> (N, N), at least 0."""
    squares = mx.sym.sum(mx.sym.square(embedding), axis=1, keepdims=True)  # (N, 1)
    products = mx.sym.dot(embedding, embedding, transpose_b=True)  # (N, N)
    return mx.sym.relu(mx.sym.broadcast_add(squares, mx.sym.transpose(squares)) - 2 * products)
