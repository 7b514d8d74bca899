"""The classifier in the graph, with MXNet's optimizer: what the one in shards is compared with."""

import mxnet as mx

from vargfacenet.symbols.heads import margin_softmax, softmax
from vargfacenet.symbols.objective import objective
from vargfacenet.train.classifier import Margin, ShardedClassifier
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime

MARGINS = [
    {},
    {"m2": 0.0, "m3": 0.35},
    {"m1": 1.35, "m2": 0.0},
    {"m1": 0.9, "m2": 0.4, "m3": 0.15, "scale": 16.0},
    {"m1": 2.0, "m2": 1.0},  # angles beyond pi
    None,  # plain softmax
]


class DenseClassifier:
    """The head of a graph and its weights, updated by ``mx.optimizer.SGD``."""

    def __init__(self, arrays, margins, batch_size, **optimizer):
        identities, size = arrays["weight"].shape
        embedding, label = mx.sym.var("embedding"), mx.sym.var("label")
        if margins is None:
            head = softmax(embedding, label, num_identities=identities)
        else:
            head = margin_softmax(embedding, label, num_identities=identities, embedding_size=size, **margins)
        self.arrays = {f"fc7_{name}": mx.nd.array(value) for name, value in arrays.items()}
        inputs = {"embedding": mx.nd.zeros((batch_size, size)), "label": mx.nd.zeros(batch_size)}
        self.gradients = {name: mx.nd.zeros(array.shape) for name, array in {**self.arrays, **inputs}.items()}
        self._executor = objective(identity=head).bind(
            mx.cpu(), {**self.arrays, **inputs}, args_grad=self.gradients, grad_req="write"
        )
        names = dict(enumerate(self.arrays))
        self._updater = mx.optimizer.get_updater(mx.optimizer.SGD(param_idx2name=names, **optimizer))

    def step(self, embedding, label, *, lr=None):
        """Loss, correctness and the gradient to the embedding, as arrays."""
        loss, correct = self._executor.forward(
            is_train=True, embedding=mx.nd.array(embedding), label=mx.nd.array(label)
        )
        self._executor.backward()
        if lr is not None:
            self._updater.optimizer.set_learning_rate(lr)
            for index, (name, array) in enumerate(self.arrays.items()):
                self._updater(index, self.gradients[name], array)
        return loss.asnumpy(), correct.asnumpy(), self.gradients["embedding"].asnumpy()

    def momentum(self, name):
        return self._updater.states[list(self.arrays).index(name)].asnumpy()


def sharded(arrays, margins, devices=1, *, lr=0.0, sampling=None, rescale=1.0, cluster=ALONE, **sgd):
    """A classifier in shards that begins with these weights (dict of ``weight`` and, for plain softmax, ``bias``).

    `lr` is a number, or a function of the update.
    """
    margin = None if margins is None else Margin(**{**{"m1": 1.0, "m2": 0.5, "m3": 0.0, "scale": 64.0}, **margins})
    identities, size = arrays["weight"].shape
    classifier = ShardedClassifier(
        num_identities=identities,
        embedding_size=size,
        sgd=SGD(lr if callable(lr) else lambda update: lr, **sgd),
        margin=margin,
        sampling=sampling,
        rescale=rescale,
        runtime=Runtime([mx.cpu(number) for number in range(devices)], cluster),
    )
    classifier.load_state(
        {f"arg:fc7_{name}/0": mx.nd.array(value.reshape((identities, -1))) for name, value in arrays.items()}
    )
    return classifier
