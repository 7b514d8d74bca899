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
from vargfacenet.train.classifier import ShardedTrainer
from vargfacenet.train.engine import NotFinite, StepResult


class TorchShardedTrainer(ShardedTrainer):
    """A `ShardedTrainer` whose parts are a `TorchTrainer`, of one slice, and a `TorchClassifier` on the same device.

    Implements `vargfacenet.train.engine.LaunchingTrainer`.
    """

    network: TorchTrainer
    classifier: TorchClassifier

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
