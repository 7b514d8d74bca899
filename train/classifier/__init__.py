"""The classifier outside the graph: its identities in shards, one for each device, optionally sampled in each update."""

from vargfacenet.symbols.heads import Margin
from vargfacenet.train.classifier.sampling import Sampling
from vargfacenet.train.classifier.sharded import ShardedClassifier
from vargfacenet.train.classifier.trainer import ShardedTrainer

__all__ = ["Margin", "Sampling", "ShardedClassifier", "ShardedTrainer"]
