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
    first_update, updates_before : int
        Updates of this schedule already behind, and those of earlier ones, which the classifier's sample counts too.
    **options
        The others of `Trainer`.
    """

    def __init__(self, symbol, *, classifier, first_update=0, updates_before=0, **options):
        super().__init__(symbol, first_update=first_update, **options)
        self._classifier, self._update, self._updates_before = classifier, first_update, updates_before

    def _descend(self, batch):
        self._update += 1
        self._module.forward(batch, is_train=True)
        embedding, *others = self._module.get_outputs()
        loss, correct, gradient = self._classifier.step(
            embedding, batch.label[0], lr=self.schedule(self._update), update=self._updates_before + self._update
        )
        self._module.backward([gradient, *(other.ones_like() for other in others)])
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
