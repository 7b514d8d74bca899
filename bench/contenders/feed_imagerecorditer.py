"""Batches of the same images by MXNet's `ImageRecordIter`, shuffled."""

from collections.abc import Callable
from typing import Any

import mxnet as mx


def prepare(*, records: str, batch_size: int, batches: int, threads: int) -> Callable[[], dict[str, Any]]:
    """`records` is a record file without InsightFace's index records, which this iterator cannot read."""
    iterator = mx.io.ImageRecordIter(
        path_imgrec=records,
        data_shape=(3, 112, 112),
        batch_size=batch_size,
        shuffle=True,
        rand_mirror=True,
        preprocess_threads=threads,
        verbose=False,
    )

    def turn() -> dict[str, Any]:
        for _ in range(batches):
            try:
                batch = iterator.next()
            except StopIteration:
                iterator.reset()
                batch = iterator.next()
            batch.data[0].wait_to_read()
        return {"items": batches * batch_size}

    return turn
