"""A trainer whose classifier is outside the graph, in PyTorch."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
import torch

from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.trainer import TorchTrainer
from vargfacenet.train.engine import Arrays


class TorchShardedTrainer(TorchTrainer):
    """A graph that gives embeddings, and a classifier over all workers that gives the identity loss and its gradient.

    Parameters
    ----------
    symbol
        What `vargfacenet.symbols.objective.open_objective` gives.
    classifier
        On the same device.
    **options
        The others of `TorchTrainer`, with one slice.
    """

    def __init__(self, symbol: mx.sym.Symbol, *, classifier: TorchClassifier, **options: Any) -> None:
        super().__init__(symbol, **options)
        self._classifier = classifier
        self._label = np.empty(0)
        # With several workers: the whole classifier at the last `synchronise`, and what `load_state` was given for it.
        self._whole: Arrays = {}
        self._loaded: Arrays = {}

    def _inputs(self, batch: mx.io.DataBatch) -> list[torch.Tensor]:
        self._label = batch.label[0].asnumpy()
        return super()._inputs(batch)

    def _descend(self, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self._run(*inputs)
        named = dict(zip(self._outputs, outputs if isinstance(outputs, tuple) else (outputs,)))
        embedding = named.pop(self._outputs[0])
        loss, correct, gradient = self._classifier.descend(embedding.detach(), self._label, update=self._update)
        others = [value for value in named.values() if value.requires_grad]
        torch.autograd.backward([embedding, *others], [gradient, *map(torch.ones_like, others)])
        measures = {name: value.detach() for name, value in named.items()}
        if not measures:
            return {"loss": loss, "accuracy": correct, "embedding": embedding.detach()}
        whole = loss + measures.pop("distillation")
        return {"loss": whole, "accuracy": correct, **measures, "identity_loss": loss, "embedding": embedding.detach()}

    def _apply(self, lr: float) -> None:
        super()._apply(lr)
        self._classifier.update(lr, self._broken)

    def state(self) -> Arrays:
        """Return the state of network and classifier; with several workers, the classifier of the last `synchronise`."""
        whole = self._classifier.state() if self._workers == 1 else self._whole
        return {**super().state(), **whole}

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned; with several workers the classifier takes its part in `broadcast_state`."""
        own = {key: value for key, value in state.items() if key.partition(":")[2].startswith("fc7_")}
        super().load_state({key: value for key, value in state.items() if key not in own})
        if self._workers == 1:
            self._classifier.load_state(own)
        else:
            self._loaded = own

    def synchronise(self) -> None:
        """Bring the workers' running statistics together, and the whole classifier to worker 0."""
        super().synchronise()
        if self._workers > 1:
            whole = self._classifier.state()  # all take part in it, and worker 0 keeps it
            self._whole = whole if self._cluster.is_first else {}

    def broadcast_state(self) -> None:
        """Give every worker the state that worker 0 has loaded or drawn."""
        super().broadcast_state()
        if self._workers > 1 and self._cluster.broadcast_object(bool(self._loaded)):
            self._classifier.load_state(self._loaded)
        self._loaded = {}
