"""The classifier outside the graph: its identities in shards, one a device, and of these, where wanted, a sample."""

from vargfacenet.symbols.heads import Margin
from vargfacenet.train.classifier.exchange import ALONE, Alone, OverStore
from vargfacenet.train.classifier.sharded import ShardedClassifier
from vargfacenet.train.classifier.trainer import ShardedTrainer

__all__ = ["ALONE", "Alone", "Margin", "OverStore", "ShardedClassifier", "ShardedTrainer"]
