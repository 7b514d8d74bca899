"""Batches of a training set by this package: decoded, mirrored, shuffled, on the device."""

from collections.abc import Callable
from typing import Any

import mxnet as mx

from vargfacenet.data import Augmentation, BatchReader, FaceIterator, RecordSet


def prepare(*, data: str, batch_size: int, batches: int) -> Callable[[], dict[str, Any]]:
    """`data` is a training set's folder, `batches` those of a turn."""
    iterator = FaceIterator(BatchReader(RecordSet(data), batch_size=batch_size, augment=Augmentation()))

    def turn() -> dict[str, Any]:
        for _ in range(batches):
            iterator.next()
        mx.nd.waitall()
        return {"items": batches * batch_size}

    return turn
