"""A classifier whose identities are spread over devices, and over those of other workers."""

import collections

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.symbols.margins import MARGINS
from vargfacenet.train.classifier.exchange import ALONE, gather
from vargfacenet.train.classifier.sampling import sample_rows
from vargfacenet.train.classifier.shard import Shard, Statistics, Update
from vargfacenet.train.classifier.targets import Targets, follow

PART = 65536  # rows of the classifier in one array of a saved state
_DRAWN = 4096  # rows whose initial weights are drawn at once
MOST_IDENTITIES = 1 << 24  # labels are float32

Margin = collections.namedtuple("Margin", "m1 m2 m3 scale")
Margin.__doc__ = "The margins of `vargfacenet.symbols.heads.margin_softmax`."
_SQUARE_EPS = 1e-10  # keeps the slope of an embedding's length finite


class ShardedClassifier:
    """What `softmax` of `vargfacenet.symbols.heads` or `margin_head` of `vargfacenet.symbols.margins` computes, and the
    update of its weights.

    Each device of each worker holds a slice of the identities; sizes differ by one at most. Per update the shards are told
    all embeddings and labels, and tell one another, of each sample, the true identity's cosine, the largest logit, the sum
    of exponentials, and their part of the gradient to the embeddings.

    Parameters
    ----------
    num_identities, embedding_size : int
        Rows and columns, all shards together.
    devices : list of mx.Context
        Of this worker; all workers have as many. Embeddings come and gradients go on the first.
    margin : Margin or MarginLoss, optional
        Without it, plain softmax with a bias.
    scale : float
        Multiplies the cosines of a MarginLoss; a Margin has its own.
    centres : int
        Centres of an identity, of which the nearest counts.
    frozen : bool
        Whether the weights stay as they are.
    follow : bool
        Whether the weights are AdaDistill's centres: they follow the teacher's embeddings, and no gradient.
    momentum, weight_decay, rescale, clip_gradient : float
        Of stochastic gradient descent as MXNet's ``sgd`` does it: gradients of the summed loss are multiplied by
        `rescale`; a `clip_gradient` of 0 is none.
    sample_rate : float
        Share of each shard's identities that takes part in an update, above 0 .. 1: those of the batch, and others at
        random. The rest keep weights and momentum as they are, without decay. Below 1 the loss is over those that take part.
    seed : int
        Decides the sample, with the update and the bounds of the shards.
    exchange : object
        As `vargfacenet.train.classifier.exchange.Alone`.

    Raises
    ------
    SettingError
        Where there are fewer identities than shards, or more than a label can name.
    """

    def __init__(
        self,
        *,
        num_identities,
        embedding_size,
        devices,
        margin=None,
        scale=64.0,
        centres=1,
        frozen=False,
        follow=False,
        momentum=0.9,
        weight_decay=5e-4,
        rescale=1.0,
        clip_gradient=0.0,
        sample_rate=1.0,
        seed=0,
        exchange=ALONE,
    ):
        count = len(devices) * exchange.size
        if not count <= num_identities <= MOST_IDENTITIES:
            raise SettingError(
                f"{num_identities} identities on {count} device(s): expected at least one for each, and at most "
                f"{MOST_IDENTITIES}, whose numbers float32 labels hold"
            )
        if isinstance(margin, Margin):
            *margins, scale = margin
            margin = MARGINS["margin"](*margins)
        self._margin = margin
        self._scale, self._frozen, self._follow = scale if margin else 1.0, frozen or follow, follow
        self._exchange, self._device = exchange, devices[0]
        self._targets = Targets(margin, self._scale, seed, devices[0])
        self._num_identities, self._seed, self._sample_rate = num_identities, seed, sample_rate
        self._optimizer = Update(0.0, momentum, weight_decay, rescale, clip_gradient)
        bounds = shard_bounds(num_identities, count)
        mine = range(exchange.rank * len(devices), (exchange.rank + 1) * len(devices))
        self.shards = [
            Shard(bounds[number], bounds[number + 1], embedding_size, device, scale if margin else None, centres)
            for number, device in zip(mine, devices)
        ]

    @property
    def reads_teacher(self):
        """Whether `step` needs the teacher's embeddings (bool)."""
        return self._follow or (self._margin is not None and self._margin.reads_teacher)

    def initialise(self, *seeds):
        """Draws weights as a run's others are drawn: Xavier, gaussian, by fan-out, magnitude 2; the rest becomes 0.

        What is drawn depends on the seeds (int) alone, however the identities are spread.
        """
        deviation = np.float32(np.sqrt(2 / self._num_identities))
        for shard in self.shards:
            for array in (*shard.arrays.values(), *shard.momenta.values()):
                array[:] = 0
            weight = shard.arrays["weight"]
            for part in range(shard.start // _DRAWN, (shard.stop - 1) // _DRAWN + 1):
                random = np.random.default_rng(np.random.SeedSequence((*seeds, part)))
                drawn = random.standard_normal((_DRAWN, weight.shape[1]), np.float32)
                drawn *= deviation
                begin, end = max(shard.start, part * _DRAWN), min(shard.stop, (part + 1) * _DRAWN)
                weight[begin - shard.start : end - shard.start] = drawn[begin - part * _DRAWN : end - part * _DRAWN]

    def step(self, embedding, label, *, lr, update, teacher=None):
        """One update of the classifier.

        Parameters
        ----------
        embedding : NDArray
            This worker's (N, embedding_size), on the first device.
        label : NDArray or array
            Identities (N,).
        lr : float
            Learning rate.
        update : int
            Which update this is, as far as what is drawn is concerned.
        teacher : NDArray, optional
            The teacher's embeddings, (N, embedding_size), for a loss that reads them.

        Returns
        -------
        loss, correct, gradient : NDArray
            Of this worker's samples: the loss, (N,); 1 where the true identity's logit without margin is larger than those
            of all others that took part, else 0, (N,); and the gradient of the summed loss to `embedding`. Not waited for.
        """
        batch = embedding.shape[0]
        own = slice(self._exchange.rank * batch, (self._exchange.rank + 1) * batch)
        embedding.attach_grad()
        with mx.autograd.record():
            data = mx.nd.L2Normalization(embedding, mode="instance") if self._margin else mx.nd.identity(embedding)
            norm = mx.nd.sqrt(mx.nd.sum(mx.nd.square(embedding), axis=1) + _SQUARE_EPS)
        whole, norms, taught, label = self._gather(data.detach(), norm.detach(), teacher, label)
        if self._follow:
            for shard in self.shards:
                follow(shard, whole, taught, label)
        true = self._true_cosines("true", whole, label)
        sure = self._true_cosines("teacher", taught, label) if self._margin and self._margin.reads_teacher else None
        target = self._targets.of(true, norms, sure, update)
        parts = [self._forward(shard, whole, label, target, update) for shard in self.shards]
        found = self._join(parts)
        probability = mx.nd.exp(target.logit - found.largest) / found.total
        change = (probability - 1) * target.slope
        loss = mx.nd.log(found.total) + found.largest - target.logit + target.penalty
        gradient = mx.nd.zeros_like(whole)
        lr = 0.0 if self._frozen else lr
        for shard in self.shards:
            told = (array.as_in_context(shard.device) for array in (found.largest, found.total, change))
            gradient += shard.backward(*told, self._optimizer._replace(lr=lr)).as_in_context(self._device)
        by_norm = self._scale * (probability - 1) * target.norm_slope + target.penalty_slope
        mx.autograd.backward([data, norm], [self._exchange.sum("classifier gradient", gradient)[own], by_norm[own]])
        return loss[own], (self._scale * true > found.rival)[own], embedding.grad

    def _forward(self, shard, whole, label, target, update):
        """A shard's Statistics."""
        data, logit = (array.as_in_context(shard.device) for array in (whole, target.logit))
        return shard.forward(data, label, logit, self._rows(shard, label, update), self._targets.weigh)

    def _true_cosines(self, name, data, label):
        """Of embeddings of all workers the cosine to the own identity, with plain softmax the logit: (N,)."""
        parts = [shard.true_cosines(data.as_in_context(shard.device), label) for shard in self.shards]
        total = sum((part.as_in_context(self._device) for part in parts[1:]), parts[0].as_in_context(self._device))
        return self._exchange.sum(f"{name} cosines", total)

    def state(self):
        """Weights and momenta by name (dict of str to NDArray), in parts that are the same however they are spread.

        All workers must call it; each gets all of it.
        """
        state = {}
        for kind, name, part, begin, end in self._parts():
            pieces = []
            for shard in self.shards:
                array = getattr(shard, _KINDS[kind])[name]
                low, high = max(begin, shard.start), min(end, shard.stop)
                if low < high:
                    pieces.append((low - begin, array[low - shard.start : high - shard.start].as_in_context(mx.cpu())))
            if self._exchange.size == 1:
                values = pieces[0][1] if len(pieces) == 1 else mx.nd.concat(*(rows for _, rows in pieces), dim=0)
            else:
                values = mx.nd.zeros((end - begin, array.shape[1]))
                for place, rows in pieces:
                    values[place : place + len(rows)] = rows
                values = self._exchange.sum(f"state {name}", values)
            state[f"{kind}:fc7_{name}/{part}"] = values
        state.update({f"aux:fc7_{name}": value.copy() for name, value in self._targets.averages.items()})
        return state

    def load_state(self, state):
        """Takes what `state` gave; momenta that are not there become 0.

        All workers must call it; what counts is what worker 0 gives.

        Raises
        ------
        CheckpointError
            Where weights are missing or misshapen.
        """
        for kind, name, part, begin, end in self._parts():
            key, columns = f"{kind}:fc7_{name}/{part}", self.shards[0].arrays[name].shape[1]
            values = state.get(key) if self._exchange.rank == 0 else None
            if self._exchange.rank == 0 and (values is None if kind == "arg" else False):
                raise CheckpointError(f"the state lacks {key} of the classifier; was it saved with head=sharded?")
            if values is not None and values.shape != (end - begin, columns):
                raise CheckpointError(f"the state's {key} has shape {values.shape}, expected {(end - begin, columns)}")
            if values is None:
                values = mx.nd.zeros((end - begin, columns))
            if self._exchange.size > 1:
                values = self._exchange.sum(f"state {name}", values.copy())
            for shard in self.shards:
                low, high = max(begin, shard.start), min(end, shard.stop)
                if low < high:
                    getattr(shard, _KINDS[kind])[name][low - shard.start : high - shard.start] = values[
                        low - begin : high - begin
                    ]

        for name, average in self._targets.averages.items():
            value = state.get(f"aux:fc7_{name}") if self._exchange.rank == 0 else mx.nd.zeros_like(average)
            if value is None:
                raise CheckpointError(f"the state lacks aux:fc7_{name} of the margin loss; was it saved with another?")
            self._targets.averages[name] = self._exchange.sum(f"state {name}", value.as_in_context(self._device).copy())

    def _parts(self):
        """Kind, name, number and bounds of each array of the state."""
        for kind in _KINDS:
            for name in self.shards[0].arrays:
                for part, begin in enumerate(range(0, self._num_identities, PART)):
                    yield kind, name, part, begin, min(begin + PART, self._num_identities)

    def _rows(self, shard, label, update):
        if self._sample_rate >= 1:
            return None
        local = label[(label >= shard.start) & (label < shard.stop)] - shard.start
        return sample_rows(len(shard), self._sample_rate, local, seed=self._seed, update=update, start=shard.start)

    def _gather(self, data, norm, teacher, label):
        """Of all workers embeddings and their lengths, (N, embedding_size) and (N,), the teacher's at length 1 or None, and
        labels (int array)."""
        if teacher is not None:
            teacher = mx.nd.L2Normalization(teacher.as_in_context(data.context), mode="instance")
        if self._exchange.size > 1:
            label = mx.nd.array(label, ctx=data.context, dtype="float32")
            columns = [data, norm.reshape((-1, 1)), label.reshape((-1, 1))] + ([] if teacher is None else [teacher])
            all_of = gather(self._exchange, "embeddings and labels", mx.nd.concat(*columns, dim=1))
            size = data.shape[1]
            data, norm, label = all_of[:, :size], all_of[:, size], all_of[:, size + 1].asnumpy()
            teacher = None if teacher is None else all_of[:, size + 2 :]
        label = label.asnumpy() if isinstance(label, mx.nd.NDArray) else np.asarray(label)
        return data, norm, teacher, label.astype(np.int64)

    def _join(self, parts):
        """The Statistics of all shards together, on the first device."""
        rows = [mx.nd.stack(*(value.as_in_context(self._device) for value in part)) for part in parts]
        mine = mx.nd.stack(*rows)  # (shards of this worker, fields, N)
        columns = Statistics(*gather(self._exchange, "statistics", mine).transpose((1, 0, 2)))  # each (shards, N)
        largest = mx.nd.max(columns.largest, axis=0)
        shares = mx.nd.exp(mx.nd.broadcast_sub(columns.largest, largest.reshape((1, -1))))
        return Statistics(largest, mx.nd.sum(columns.total * shares, axis=0), mx.nd.max(columns.rival, axis=0))


_KINDS = {"arg": "arrays", "momentum": "momenta"}


def shard_bounds(num_identities, count):
    """First identity of each of `count` shards, and behind them the number of identities (list of int)."""
    return [number * num_identities // count for number in range(count + 1)]
