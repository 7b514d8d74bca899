"""A trainer whose classifier is outside the graph."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.engine import Arrays, NotFinite, StepResult


class ShardedTrainer:
    """A network that gives embeddings, and a classifier in shards that gives the identity loss and its gradient.

    Implements `vargfacenet.train.engine.TrainerProtocol` by the two parts it is made of. Only `step` depends on the engine.

    Parameters
    ----------
    network
        `Trainer` of the graph that `vargfacenet.symbols.objective.open_objective` gives.
    classifier
        `ShardedClassifier` on the same devices.
    cluster
        The workers that train together, the same as that of both parts.
    """

    network: Any
    classifier: Any

    def __init__(self, network: Any, classifier: Any, cluster: Cluster = ALONE) -> None:
        self.network, self.classifier, self._cluster = network, classifier, cluster
        self.schedule = network.schedule
        # With several workers: the classifier at the last `synchronise`, and what `load_state` was given for it.
        self._whole: Arrays = {}
        self._given: Arrays = {}

    def step(self, batch: mx.io.DataBatch) -> StepResult:
        """Make one update of network and classifier."""
        outputs = self.network.forward(batch)
        embedding = next(iter(outputs))  # the graph's first output
        loss, correct, gradient = self.classifier.step(
            outputs[embedding],
            batch.label[0],
            update=self.network.updates_made,
            teacher=batch.data[1] if self.classifier.reads_teacher else None,
        )
        self.network.backward(outputs, {embedding: gradient})
        copies = {name: output.copy() for name, output in outputs.items()}
        embeddings = copies.pop(embedding)
        measures = {"loss": loss, "accuracy": correct, **copies}
        if copies:
            measures["loss"] = loss + measures.pop("distillation")
            measures["identity_loss"] = loss
        return self.network.update({**measures, "embedding": embeddings}, batch.label)

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics of the network, without the classifier."""
        return self.network.parameters()

    def averages(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics of the network, averaged where averages are kept."""
        return self.network.averages()

    def set_parameters(self, args: Arrays, auxs: Arrays) -> None:
        """Replace parameters and running statistics of the network."""
        self.network.set_parameters(args, auxs)

    def state(self) -> Arrays:
        """Return the state of network and classifier; with several workers, the classifier of the last `synchronise`."""
        whole = self.classifier.state() if self._cluster.world_size == 1 else self._whole
        return {**self.network.state(), **whole}

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned; with several workers the classifier takes its part in `broadcast_state`."""
        own = {key: value for key, value in state.items() if key.partition(":")[2].startswith("fc7_")}
        self.network.load_state({key: value for key, value in state.items() if key not in own})
        if self._cluster.world_size > 1:
            self._given = own
        else:
            self.classifier.load_state(own)

    def synchronise(self) -> None:
        """Bring the workers' running statistics together, and the whole classifier to worker 0."""
        self.network.synchronise()
        if self._cluster.world_size > 1:
            whole = self.classifier.state()  # which takes all workers
            self._whole = whole if self._cluster.is_first else {}

    def broadcast_state(self) -> None:
        """Give every worker the state that worker 0 has loaded or drawn."""
        self.network.broadcast_state()
        if self._cluster.broadcast_object(bool(self._given)):  # with one worker, nothing was given
            self.classifier.load_state(self._given)
        self._given = {}

    def trace_nan(self, batch: mx.io.DataBatch, fault: NotFinite) -> str:
        """Name what made the first number that is not finite."""
        return self.network.trace_nan(batch, fault)
