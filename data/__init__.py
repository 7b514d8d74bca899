"""Training sets: layout, reader, writer, iterator, augmentation, and the built-in face set."""

from vargfacenet.data.augment import Augmentation, register_augmentation
from vargfacenet.data.batches import BatchReader, Shard
from vargfacenet.data.iterator import FaceIterator
from vargfacenet.data.joined import JoinedSets
from vargfacenet.data.records import RecordSet

__all__ = [
    "Augmentation",
    "BatchReader",
    "FaceIterator",
    "JoinedSets",
    "RecordSet",
    "Shard",
    "register_augmentation",
]
