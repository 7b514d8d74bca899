"""A trainer whose classifier is outside the graph, in PyTorch."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
import torch

from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.trainer import Arrays, TorchTrainer


class TorchShardedTrainer(TorchTrainer):
    """A graph that gives embeddings, and a classifier over all workers that gives the identity loss and its gradient.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        What `vargfacenet.symbols.objective.open_objective` gives.
    classifier : TorchClassifier
        On the same device.
    updates_before : int
        Those of earlier schedules, which the classifier's sample counts too.
    **options
        The others of `TorchTrainer`, with one slice.
    """

    def __init__(self, symbol: mx.sym.Symbol, *, classifier: TorchClassifier, updates_before: int = 0, **options: Any):
        super().__init__(symbol, **options)
        self._classifier, self._updates_before = classifier, updates_before
        self._label = np.empty(0)
        self._whole: Arrays = {}
        self._given: Arrays = {}

    def _inputs(self, batch: mx.io.DataBatch) -> list[torch.Tensor]:
        self._label = batch.label[0].asnumpy()
        return super()._inputs(batch)

    def _descend(self, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self._run(*inputs)
        named = dict(zip(self._outputs, outputs if isinstance(outputs, tuple) else (outputs,)))
        embedding = named.pop("embedding")
        update = self._updates_before + self._update
        loss, correct, gradient = self._classifier.descend(embedding.detach(), self._label, update=update)
        others = [value for value in named.values() if value.requires_grad]
        torch.autograd.backward([embedding, *others], [gradient, *map(torch.ones_like, others)])
        told = {name: value.detach() for name, value in named.items()}
        if not told:
            return {"loss": loss, "accuracy": correct, "embedding": embedding.detach()}
        whole = loss + told.pop("distillation")
        return {"loss": whole, "accuracy": correct, **told, "identity_loss": loss, "embedding": embedding.detach()}

    def _apply(self, lr: float) -> None:
        super()._apply(lr)
        self._classifier.update(lr, self._broken)

    def state(self) -> Arrays:
        """As of `TorchTrainer`, with the classifier; of several workers' as it was at the last `synchronise`."""
        whole = self._classifier.state() if self._workers == 1 else self._whole
        return {**super().state(), **whole}

    def load_state(self, state: Arrays) -> None:
        """As of `TorchTrainer`; with several workers the classifier takes what it is given in `share_state`."""
        own = {key: value for key, value in state.items() if key.partition(":")[2].startswith("fc7_")}
        super().load_state({key: value for key, value in state.items() if key not in own})
        if self._workers == 1:
            self._classifier.load_state(own)
        else:
            self._given = own

    def synchronise(self) -> None:
        super().synchronise()
        if self._workers > 1:
            whole = self._classifier.state()  # all take part in it, and worker 0 keeps it
            self._whole = whole if self._cluster.is_first else {}

    def share_state(self) -> None:
        super().share_state()
        if self._workers > 1 and self._cluster.share(bool(self._given)):
            self._classifier.load_state(self._given)
        self._given = {}
