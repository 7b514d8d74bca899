"""One device's slice of the classifier: its logits, and the update of its rows.

Rows are taken in blocks. Of the size of the batch times the identities there is one array, of the size of the identities
times the embedding there are weights and momentum; all else is of a block.
"""

import collections

import mxnet as mx
import numpy as np

BLOCK = 4096  # rows
_NORM_EPS = 1e-10  # that of mx.sym.L2Normalization, which the head in the graph takes
_NEVER = -1e30  # a logit that has no weight

Statistics = collections.namedtuple("Statistics", "largest total rival")
Statistics.__doc__ = """What a shard tells the others of each sample, all (N,): its largest logit; the sum of
exp(logit - largest); and the largest logit of the other identities, before the margin loss weighs them."""

Update = collections.namedtuple("Update", "lr momentum weight_decay rescale clip")
Update.__doc__ = (
    "Stochastic gradient descent in one update; gradients are multiplied by `rescale`; a `clip` of 0 is none."
)


class Shard:
    """The classifier's rows of identities ``start .. stop - 1``, on one device.

    Parameters
    ----------
    start, stop : int
        Identities that live here, at least one.
    embedding_size : int
        Columns.
    device : mx.Context
        Where they live.
    scale : float, optional
        Logits are cosines times this; without it, those of plain softmax with a bias.
    centres : int
        Centres of an identity, of which the nearest counts.

    Attributes
    ----------
    arrays, momenta : dict of str to NDArray
        ``weight`` (stop - start, centres * embedding_size), with plain softmax ``bias`` (stop - start, 1), and their
        momenta. The centres of an identity are adjacent in its row.
    """

    def __init__(self, start, stop, embedding_size, device, scale=None, centres=1):
        self.start, self.stop, self.device = start, stop, device
        self._normalises, self._scale, self._centres = scale is not None, scale or 1.0, centres
        columns = {"weight": centres * embedding_size, **({} if scale else {"bias": 1})}
        self.arrays = {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
        self.momenta = {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
        self._kept = {}  # arrays that each update needs again

    def __len__(self):
        return self.stop - self.start

    def true_cosines(self, data, label):
        """Each sample's cosine to its own identity, with plain softmax the logit: (N,); 0 where that lives elsewhere.

        Parameters
        ----------
        data, label
            As in `forward`.
        """
        row, here = (mx.nd.array(part, ctx=self.device) for part in self._places(label))
        row = row.astype("int32")
        weight = mx.nd.take(self.arrays["weight"], row).reshape((len(label) * self._centres, -1))
        data = mx.nd.repeat(data, self._centres, axis=0) if self._centres > 1 else data
        true = _row_sums(weight * data)
        if self._normalises:
            true = true * mx.nd.rsqrt(_row_sums(mx.nd.square(weight)) + _NORM_EPS)
            true = mx.nd.max(true.reshape((len(label), self._centres)), axis=1)
        else:
            true = (true + mx.nd.take(self.arrays["bias"], row)).reshape((-1,))
        return true * here

    def forward(self, data, label, target, rows=None, weigh=None):
        """Logits of a batch for the rows that take part.

        Parameters
        ----------
        data : NDArray
            Embeddings (N, embedding_size) on this device; of length 1 where logits are cosines.
        label : int array
            Identities (N,), here or in other shards.
        target : NDArray
            On this device, (N,): the logit of each sample's own identity, with margin.
        rows : int32 array, optional
            Rows that take part, sorted, those of the labels among them; all by default.
        weigh : callable, optional
            How the loss weighs cosines, own identities left out: NDArray (N, C) -> (N, C).

        Returns
        -------
        Statistics
        """
        row, here = self._places(label)
        self._blocks = [_Block(*ends, here, row, rows, self.device) for ends in _ends(len(self), rows)]
        self._data = data * self._scale
        largest, totals, rivals = [], [], []
        for number, block in enumerate(self._blocks):
            logits = self._logits(number, block, len(label))
            never = mx.nd.full(len(label), _NEVER, ctx=self.device)
            block.write(logits, never)
            rivals.append(mx.nd.max(logits, axis=1))
            others = rivals[-1]
            if weigh is not None:
                self._weigh(block, logits, weigh)
                block.write(logits, never)
                others = mx.nd.max(logits, axis=1)
            block.write(logits, target)
            largest.append(mx.nd.maximum(others, block.only(target, _NEVER)))
            mx.nd.broadcast_sub(logits, largest[-1].reshape((-1, 1)), out=logits)
            mx.nd.exp(logits, out=logits)
            block.logits = logits
            totals.append(_row_sums(logits).reshape((-1,)))
        self._largest = mx.nd.stack(*largest)  # (blocks, N)
        most = mx.nd.max(self._largest, axis=0)
        shares = mx.nd.exp(mx.nd.broadcast_sub(self._largest, most.reshape((1, -1))))
        total = mx.nd.sum(mx.nd.stack(*totals) * shares, axis=0)
        return Statistics(most, total, mx.nd.max(mx.nd.stack(*rivals), axis=0))

    def backward(self, largest, total, change, update):
        """Updates the rows that took part, and gives the gradient of the summed loss to the embeddings.

        Parameters
        ----------
        largest, total, change : NDArray
            On this device, (N,): of all shards together, the largest logit and the sum of exp(logit - largest); and the
            gradient to the true identity's logit before the margin.
        update : Update
            Of the optimizer.

        Returns
        -------
        NDArray
            (N, embedding_size): this shard's part of the gradient to `data`.
        """
        shares = mx.nd.broadcast_div(
            mx.nd.exp(mx.nd.broadcast_sub(self._largest, largest.reshape((1, -1)))), total.reshape((1, -1))
        )  # (blocks, N)
        found = mx.nd.zeros_like(self._data)
        for number, block in enumerate(self._blocks):
            gradient = mx.nd.broadcast_mul(block.logits, shares[number].reshape((-1, 1)), out=block.logits)
            if block.slope is not None:
                gradient *= block.slope
            block.write(gradient, change)  # to the logits, then over their scale
            weight = block.read(self.arrays["weight"], self._buffer("weight", BLOCK))
            every = self._each(weight)  # (rows * centres, embedding_size)
            if self._centres > 1:
                nearest = mx.nd.one_hot(block.nearest, self._centres)  # (N, rows, centres)
                gradient = mx.nd.broadcast_mul(nearest, gradient.expand_dims(2)).reshape((len(gradient), -1))
            if self._normalises:
                mx.nd.broadcast_mul(gradient, block.factor.reshape((1, -1)), out=gradient)
            found += mx.nd.dot(gradient, every)
            rows = self._each(self._buffer("rows", BLOCK)[: len(block)])
            mx.nd.dot(gradient, self._data, transpose_a=True, out=rows)
            if self._normalises:
                # Only what is across a row's direction turns it.
                product = self._each(self._buffer("product", BLOCK)[: len(block)])
                along = _row_sums(mx.nd.elemwise_mul(rows, every, out=product)) * mx.nd.square(block.factor)
                mx.nd.broadcast_mul(every, along, out=product)
                mx.nd.elemwise_sub(rows, product, out=rows)
            else:
                # As MXNet's optimizer does, no weight decay on a bias.
                spared = update._replace(weight_decay=0.0)
                self._descend(block, "bias", _row_sums(gradient.T), block.read(self.arrays["bias"]), spared)
            self._descend(block, "weight", rows.reshape(weight.shape), weight, update)
        return found * self._scale

    def _places(self, label):
        """Row of each sample's identity, and whether it lives here (arrays (N,))."""
        here = (label >= self.start) & (label < self.stop)
        return np.where(here, label - self.start, 0), here

    def _logits(self, number, block, count):
        """The logits of a block's identities, before any margin: (N, rows), in an array that each update needs again."""
        weight = self._each(block.read(self.arrays["weight"], self._buffer("weight", BLOCK)))
        logits = self._buffer(f"logits {number}", count, len(weight))
        mx.nd.FullyConnected(self._data, weight, num_hidden=len(weight), no_bias=True, flatten=False, out=logits)
        if not self._normalises:
            bias = block.read(self.arrays["bias"]).reshape((1, -1))
            return mx.nd.broadcast_add(logits, bias, out=logits)
        squares = mx.nd.square(weight, out=self._each(self._buffer("product", BLOCK)[: len(block)]))
        block.factor = mx.nd.rsqrt(_row_sums(squares) + _NORM_EPS)  # (rows * centres, 1)
        mx.nd.broadcast_mul(logits, block.factor.reshape((1, -1)), out=logits)
        if self._centres == 1:
            return logits
        every = logits.reshape((count, len(block), self._centres))
        block.nearest = mx.nd.argmax(every, axis=2)  # (N, rows)
        return mx.nd.max(every, axis=2)

    def _weigh(self, block, logits, weigh):
        """Replaces logits by what the loss makes of them, and keeps the slope of that."""
        cosines = logits / self._scale
        cosines.attach_grad()
        with mx.autograd.record():
            weighed = weigh(cosines)
        weighed.backward()
        block.slope = cosines.grad
        logits[:] = weighed.detach() * self._scale

    def _each(self, rows):
        """A view of rows (n, centres * embedding_size) in which each centre is one: (n * centres, embedding_size)."""
        return rows if self._centres == 1 else rows.reshape((len(rows) * self._centres, -1))

    def _descend(self, block, name, gradient, values, update):
        options = {"lr": update.lr, "wd": update.weight_decay, "rescale_grad": update.rescale}
        if update.clip:
            options["clip_gradient"] = update.clip
        if update.momentum:
            momenta = block.read(self.momenta[name])
            mx.nd.sgd_mom_update(values, gradient, momenta, momentum=update.momentum, out=values, **options)
            block.store(self.momenta[name], momenta)
        else:
            mx.nd.sgd_update(values, gradient, out=values, **options)
        block.store(self.arrays[name], values)

    def _buffer(self, use, rows, columns=None):
        columns = columns or self.arrays["weight"].shape[1]
        kept = self._kept.get(use)
        if kept is None or kept.shape != (rows, columns):
            kept = self._kept[use] = mx.nd.empty((rows, columns), ctx=self.device)
        return kept


class _Block:
    """Rows of a shard that are worked on at once, and which of the samples' true identities are among them."""

    def __init__(self, begin, end, here, row, rows, device):
        self._begin, self._end, self._device = begin, end, device
        self._rows = None if rows is None else mx.nd.array(rows[begin:end], ctx=device, dtype="int32")
        place = row if rows is None else np.searchsorted(rows, row)
        samples = np.flatnonzero(here & (place >= begin) & (place < end))
        self._count = len(here)
        self._samples = self._places = None
        self.factor = self.nearest = self.slope = None
        if len(samples):
            self._samples = mx.nd.array(samples, ctx=device, dtype="int32")
            places = np.stack([samples, place[samples] - begin])
            self._places = mx.nd.array(places, ctx=device, dtype="int32")

    def __len__(self):
        return self._end - self._begin

    def read(self, array, buffer=None):
        """Its rows of a shard's array: a view, or where they do not lie together a copy, in `buffer` where given."""
        if self._rows is None:
            return array[self._begin : self._end]
        return mx.nd.take(array, self._rows, out=None if buffer is None else buffer[: len(self)])

    def store(self, array, values):
        """Puts back what `read` gave, and what was changed since."""
        if self._rows is not None:
            _set(array, self._rows.reshape((1, -1)), values)

    def write(self, logits, values):
        """Sets the true identities' entries of (N, rows) to their samples' values, (N,)."""
        if self._samples is not None:
            _set(logits, self._places, mx.nd.take(values, self._samples))

    def only(self, values, other):
        """Values (N,) of the samples whose true identity is here, `other` for the rest."""
        found = mx.nd.full(self._count, other, ctx=self._device)
        if self._samples is not None:
            _set(found, self._samples.reshape((1, -1)), mx.nd.take(values, self._samples))
        return found


def _ends(count, rows):
    count = count if rows is None else len(rows)
    return [(begin, min(begin + BLOCK, count)) for begin in range(0, count, BLOCK)]


def _row_sums(array):
    """(N, C) -> (N, 1), as a product with ones, which on CPUs is many times quicker than MXNet's sum."""
    return mx.nd.dot(array, mx.nd.ones((array.shape[1], 1), ctx=array.context))


def _set(array, places, values):
    mx.nd._internal._scatter_set_nd(lhs=array, rhs=values, indices=places, shape=array.shape, out=array)
