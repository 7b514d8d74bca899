"""Batches of the same images as the lineage's Python iterator makes them: one record after another, by MXNet."""

import random
from collections.abc import Callable
from typing import Any

import mxnet as mx


def prepare(*, data: str, batch_size: int, batches: int) -> Callable[[], dict[str, Any]]:
    """Open the training set in the folder `data`."""
    records = mx.recordio.MXIndexedRecordIO(f"{data}/train.idx", f"{data}/train.rec", "r")
    header, _ = mx.recordio.unpack(records.read_idx(0))
    keys = list(range(1, int(header.label[0])))
    place = len(keys)

    def turn() -> dict[str, Any]:
        nonlocal place
        for _ in range(batches):
            data = mx.nd.empty((batch_size, 3, 112, 112))
            labels = mx.nd.empty((batch_size,))
            for row in range(batch_size):
                if place == len(keys):
                    random.shuffle(keys)
                    place = 0
                header, encoded = mx.recordio.unpack(records.read_idx(keys[place]))
                place += 1
                image = mx.image.imdecode(encoded)
                if random.random() < 0.5:
                    image = mx.nd.flip(data=image, axis=1)
                data[row][:] = mx.nd.transpose(image, axes=(2, 0, 1))
                labels[row][:] = header.label
            data.wait_to_read()
        return {"items": batches * batch_size}

    return turn
