"""A trainer whose classifier is outside the graph, in PyTorch."""

from __future__ import annotations

import mxnet as mx
import torch

from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.cluster import explained
from vargfacenet.torch.outputs import PendingStep
from vargfacenet.torch.trainer import TorchTrainer
from vargfacenet.torch.transfers import to_device
from vargfacenet.torch.uploads import as_tensor
from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.engine import Arrays, NotFinite, StepResult


class TorchShardedTrainer:
    """A network that gives embeddings, and a classifier over all workers that gives the identity loss and its gradient.

    Implements `vargfacenet.train.engine.LaunchingTrainer` by the two parts it is made of.

    Parameters
    ----------
    network
        Trainer, of one slice, of the graph that `vargfacenet.symbols.objective.open_objective` gives.
    classifier
        On the same device.
    cluster
        The workers that train together, the same as that of both parts.
    """

    def __init__(self, network: TorchTrainer, classifier: TorchClassifier, cluster: Cluster = ALONE) -> None:
        self.network, self.classifier, self._cluster = network, classifier, cluster
        self.schedule = network.schedule
        # With several workers: the classifier at the last `synchronise`, and what `load_state` was given for it.
        self._whole: Arrays = {}
        self._loaded: Arrays = {}

    def step(self, batch: mx.io.DataBatch) -> StepResult:
        """Make one update of network and classifier, as in `TrainerProtocol`."""
        try:
            return self.launch(batch).result()
        except NotFinite:
            self.network.broken.zero_()
            raise

    def launch(self, batch: mx.io.DataBatch) -> PendingStep:
        """Start an update of network and classifier without waiting for the device."""
        outputs = self.network.forward(batch)
        name = next(iter(outputs))  # the embedding is the graph's first output
        embedding, device = outputs[name].detach(), outputs[name].device
        teacher = to_device(as_tensor(batch.data[1]), device) if self.classifier.reads_teacher else None
        with explained(self._cluster):
            loss, correct, gradient = self.classifier.descend(
                embedding, batch.label[0].asnumpy(), update=self.network.updates_made, teacher=teacher
            )
        self.network.backward(outputs, {name: gradient})
        measures = {key: value.detach() for key, value in outputs.items() if key != name}
        found: dict[str, torch.Tensor] = {"loss": loss, "accuracy": correct}
        if measures:
            found = {
                "loss": loss + measures.pop("distillation"),
                "accuracy": correct,
                **measures,
                "identity_loss": loss,
            }
        pending = self.network.update({**found, "embedding": embedding}, batch.label)
        self.classifier.update(self.schedule(self.network.updates_made), self.network.broken)
        return pending

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
        if self._cluster.world_size == 1:
            self.classifier.load_state(own)
        else:
            self._loaded = own

    def synchronise(self) -> None:
        """Bring the workers' running statistics together, and the whole classifier to worker 0."""
        self.network.synchronise()
        if self._cluster.world_size > 1:
            whole = self.classifier.state()  # all take part in it, and worker 0 keeps it
            self._whole = whole if self._cluster.is_first else {}

    def broadcast_state(self) -> None:
        """Give every worker the state that worker 0 has loaded or drawn."""
        self.network.broadcast_state()
        if self._cluster.world_size > 1 and self._cluster.broadcast_object(bool(self._loaded)):
            self.classifier.load_state(self._loaded)
        self._loaded = {}

    def trace_nan(self, batch: mx.io.DataBatch, fault: NotFinite) -> str:
        """Name what made the first number that is not finite."""
        return self.network.trace_nan(batch, fault)
