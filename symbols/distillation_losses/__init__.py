"""Distillation losses over a whole batch, and the mean squared error of embeddings."""

from vargfacenet.symbols.distillation_losses.embedding_error import embedding_error
from vargfacenet.symbols.distillation_losses.rkd import relational_loss
from vargfacenet.symbols.distillation_losses.triplet import triplet_distillation

__all__ = ["embedding_error", "relational_loss", "triplet_distillation"]
