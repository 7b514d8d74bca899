"""Training sets: their layout, reader, writer, iterator, augmentation, and the built-in face set."""

from vargfacenet.data.augment import Augmentation, register_augmentation
from vargfacenet.data.iterator import FaceIterator
from vargfacenet.data.joined import JoinedSets
from vargfacenet.data.records import RecordSet

__all__ = ["Augmentation", "FaceIterator", "JoinedSets", "RecordSet", "register_augmentation"]
