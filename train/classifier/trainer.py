"""A trainer whose classifier is outside the graph."""

from vargfacenet.train.trainer import Trainer


class ShardedTrainer(Trainer):
    """A Module that gives embeddings, and a classifier in shards that gives the identity loss and its gradient.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        What `vargfacenet.symbols.objective.open_objective` gives.
    classifier : ShardedClassifier
        On the same devices.
    updates_before : int
        Those of earlier schedules, which the classifier's sample counts too.
    **options
        The others of `Trainer`.
    """

    def __init__(self, symbol, *, classifier, updates_before=0, **options):
        super().__init__(symbol, **options)
        self._classifier, self._updates_before = classifier, updates_before

    def _descend(self, batch):
        self._module.forward(batch, is_train=True)
        embedding, *others = self._module.get_outputs()
        loss, correct, gradient = self._classifier.step(
            embedding, batch.label[0], lr=self.schedule(self._update), update=self._updates_before + self._update
        )
        if self._loss_scale is not None:
            gradient = gradient * self._loss_scale.value
        self._module.backward([gradient, *self._heads(others)])
        named = {name: other.copy() for name, other in zip(self._outputs[1:], others)}
        if not named:
            return {"loss": loss, "accuracy": correct}
        return {"loss": loss + named.pop("distillation"), "accuracy": correct, **named, "identity_loss": loss}

    def state(self):
        return {**super().state(), **self._classifier.state()}

    def load_state(self, state):
        own = {key: value for key, value in state.items() if key.partition(":")[2].startswith("fc7_")}
        self._classifier.load_state(own)
        super().load_state({key: value for key, value in state.items() if key not in own})
