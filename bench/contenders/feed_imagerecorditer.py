"""Batches of the same images by MXNet's `ImageRecordIter`, shuffled."""

import mxnet as mx


def prepare(*, records, batch_size, batches, threads):
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

    def turn():
        for _ in range(batches):
            try:
                batch = iterator.next()
            except StopIteration:
                iterator.reset()
                batch = iterator.next()
            batch.data[0].wait_to_read()
        return {"items": batches * batch_size}

    return turn
