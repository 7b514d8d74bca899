"""Training sets as other tools write them, and damage to them."""

import mxnet as mx
import numpy as np

from vargfacenet.data import BatchReader, FaceIterator, Shard

_OF_THE_ITERATOR = ("first_update", "last_update", "threads", "prefetch")


def face_iterator(records, *, rank=0, world_size=1, **options):
    """Return an iterator over batches; options go to the one of the two that takes them."""
    own = {name: options.pop(name) for name in _OF_THE_ITERATOR if name in options}
    return FaceIterator(BatchReader(records, shard=Shard(rank, world_size), **options), **own)


def offsets(folder):
    lines = (folder / "train.idx").read_text().splitlines()
    return {int(key): int(offset) for key, offset in (line.split() for line in lines)}


def overwrite(folder, offset, content):
    with open(folder / "train.rec", "r+b") as file:
        file.seek(offset)
        file.write(content)


def write_plain(folder, records, properties="2,112,112"):
    """Write a set without index record of identities, by MXNet's own writer."""
    folder.mkdir()
    writer = mx.recordio.MXIndexedRecordIO(str(folder / "train.idx"), str(folder / "train.rec"), "w")
    for key, (label, content) in records.items():
        header = mx.recordio.IRHeader(0 if np.isscalar(label) else len(label), label, key, 0)
        writer.write_idx(key, mx.recordio.pack(header, content))
    writer.close()
    if properties:
        (folder / "property").write_text(properties)
    return folder
