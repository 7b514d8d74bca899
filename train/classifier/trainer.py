"""A trainer whose classifier is outside the graph."""

import mxnet as mx

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
        self._whole, self._given = {}, {}

    def _descend(self, batch):
        data = batch.data[: len(self.data_names)]
        self._module.forward(mx.io.DataBatch(data, batch.label[: len(self.label_names)]), is_train=True)
        embedding, *others = self._module.get_outputs()
        loss, correct, gradient = self._classifier.step(
            embedding,
            batch.label[0],
            lr=self.schedule(self._update),
            update=self._updates_before + self._update,
            teacher=batch.data[1] if self._classifier.reads_teacher else None,
        )
        if self._loss_scale is not None:
            gradient = gradient * self._loss_scale.value
        self._module.backward([gradient, *self._heads(others)])
        named = {name: other.copy() for name, other in zip(self._outputs[1:], others)}
        told = {"embedding": embedding.copy()}
        if not named:
            return {"loss": loss, "accuracy": correct, **told}
        whole = loss + named.pop("distillation")
        return {"loss": whole, "accuracy": correct, **named, "identity_loss": loss, **told}

    def state(self):
        """As of `Trainer`, with the classifier; of several workers' as it was at the last `synchronise`."""
        whole = self._classifier.state() if self._cluster.size == 1 else self._whole
        return {**super().state(), **whole}

    def load_state(self, state):
        """As of `Trainer`; with several workers the classifier takes what it is given in `share_state`."""
        own = {key: value for key, value in state.items() if key.partition(":")[2].startswith("fc7_")}
        super().load_state({key: value for key, value in state.items() if key not in own})
        if self._cluster.size > 1:
            self._given = own
        else:
            self._classifier.load_state(own)

    def synchronise(self):
        super().synchronise()
        if self._cluster.size > 1:
            whole = self._classifier.state()  # all take part in it, and worker 0 keeps it
            self._whole = whole if self._cluster.is_first else {}

    def share_state(self):
        super().share_state()
        if self._cluster.share(bool(self._given)):
            self._classifier.load_state(self._given)
        self._given = {}
