"""One device's slice of the classifier: its logits, and the update of its rows.

Rows are taken in blocks. Of the size of the batch times the identities there is one array, of the size of the identities
times the embedding there are weights and momentum; all else is of a block.
"""

import collections

import mxnet as mx
import numpy as np

from vargfacenet.symbols.heads import margin_change

BLOCK = 4096  # rows
_NORM_EPS = 1e-10  # that of mx.sym.L2Normalization, which the head in the graph takes
_NEVER = -1e30  # a logit that has no weight

Statistics = collections.namedtuple("Statistics", "largest total target true rival")
Statistics.__doc__ = """What a shard tells the others of each sample, all (N,): its largest logit; the sum of
exp(logit - largest); where the true identity lives here the logit with and without margin, elsewhere 0; and the largest
logit of the other identities."""

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
    margin : Margin, optional
        Without it, plain softmax with a bias.

    Attributes
    ----------
    arrays, momenta : dict of str to NDArray
        ``weight`` (stop - start, embedding_size), with plain softmax ``bias`` (stop - start, 1), and their momenta.
    """

    def __init__(self, start, stop, embedding_size, device, margin=None):
        self.start, self.stop, self.device, self._margin = start, stop, device, margin
        columns = {"weight": embedding_size, **({} if margin else {"bias": 1})}
        self.arrays = {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
        self.momenta = {name: mx.nd.zeros((stop - start, size), ctx=device) for name, size in columns.items()}
        self._scale = margin.scale if margin else 1.0
        self._kept = {}  # arrays that each update needs again

    def __len__(self):
        return self.stop - self.start

    def forward(self, data, label, rows=None):
        """Logits of a batch for the rows that take part.

        Parameters
        ----------
        data : NDArray
            Embeddings (N, embedding_size) on this device; of length 1 where there is a margin.
        label : int array
            Identities (N,), here or in other shards.
        rows : int32 array, optional
            Rows that take part, sorted, those of the labels among them; all by default.

        Returns
        -------
        Statistics
        """
        here = (label >= self.start) & (label < self.stop)
        row = np.where(here, label - self.start, 0)
        self._blocks = [_Block(*ends, here, row, rows, self.device) for ends in _ends(len(self), rows)]
        self._data = data * self._scale
        true, target, self._slope = self._true_logits(row, here)
        largest, totals, rivals = [], [], []
        for number, block in enumerate(self._blocks):
            weight = block.read(self.arrays["weight"], self._buffer("weight", BLOCK))
            logits = self._buffer(f"logits {number}", len(label), len(block))
            mx.nd.FullyConnected(
                self._data, weight, num_hidden=len(block), no_bias=True, flatten=False, out=logits
            )  # (N, rows of the block)
            if self._margin:
                squares = mx.nd.square(weight, out=self._buffer("product", BLOCK)[: len(block)])
                block.factor = mx.nd.rsqrt(_row_sums(squares) + _NORM_EPS)  # (rows, 1)
                mx.nd.broadcast_mul(logits, block.factor.reshape((1, -1)), out=logits)
            else:
                bias = block.read(self.arrays["bias"]).reshape((1, -1))
                mx.nd.broadcast_add(logits, bias, out=logits)
            block.write(logits, mx.nd.full(len(label), _NEVER, ctx=self.device))
            rivals.append(mx.nd.max(logits, axis=1))
            block.write(logits, target)
            largest.append(mx.nd.maximum(rivals[-1], block.only(target, _NEVER)))
            mx.nd.broadcast_sub(logits, largest[-1].reshape((-1, 1)), out=logits)
            mx.nd.exp(logits, out=logits)
            block.logits = logits
            totals.append(_row_sums(logits).reshape((-1,)))
        self._largest = mx.nd.stack(*largest)  # (blocks, N)
        most = mx.nd.max(self._largest, axis=0)
        shares = mx.nd.exp(mx.nd.broadcast_sub(self._largest, most.reshape((1, -1))))
        total = mx.nd.sum(mx.nd.stack(*totals) * shares, axis=0)
        return Statistics(most, total, target, true, mx.nd.max(mx.nd.stack(*rivals), axis=0))

    def backward(self, largest, total, change, update):
        """Updates the rows that took part, and gives the gradient of the summed loss to the embeddings.

        Parameters
        ----------
        largest, total, change : NDArray
            On this device, (N,): of all shards together, the largest logit and the sum of exp(logit - largest); and the
            gradient to the true identity's logit.
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
        change = change * self._slope
        found = mx.nd.zeros_like(self._data)
        for number, block in enumerate(self._blocks):
            gradient = mx.nd.broadcast_mul(block.logits, shares[number].reshape((-1, 1)), out=block.logits)
            block.write(gradient, change)  # to the logits, then over their scale
            weight = block.read(self.arrays["weight"], self._buffer("weight", BLOCK))
            if self._margin:
                mx.nd.broadcast_mul(gradient, block.factor.reshape((1, -1)), out=gradient)
            found += mx.nd.dot(gradient, weight)
            rows = mx.nd.dot(gradient, self._data, transpose_a=True, out=self._buffer("rows", BLOCK)[: len(block)])
            if self._margin:
                # Only what is across a row's direction turns it.
                product = self._buffer("product", BLOCK)[: len(block)]
                along = _row_sums(mx.nd.elemwise_mul(rows, weight, out=product)) * mx.nd.square(block.factor)
                mx.nd.broadcast_mul(weight, along, out=product)
                mx.nd.elemwise_sub(rows, product, out=rows)
            else:
                # As MXNet's optimizer does, no weight decay on a bias.
                spared = update._replace(weight_decay=0.0)
                self._descend(block, "bias", _row_sums(gradient.T), block.read(self.arrays["bias"]), spared)
            self._descend(block, "weight", rows, weight, update)
        return found * self._scale

    def _true_logits(self, row, here):
        """Of each sample that lives here (elsewhere 0) the logit without margin and with it, (N,), and the slope of the
        second over the first."""
        rows, here = mx.nd.array(row, ctx=self.device, dtype="int32"), mx.nd.array(here, ctx=self.device)
        weight = mx.nd.take(self.arrays["weight"], rows)  # (N, embedding_size)
        true = _row_sums(weight * self._data).reshape((-1,))
        if self._margin is None:
            true = (true + mx.nd.take(self.arrays["bias"], rows).reshape((-1,))) * here
            return true, true, mx.nd.ones_like(true)
        norms = mx.nd.rsqrt(_row_sums(mx.nd.square(weight)) + _NORM_EPS).reshape((-1,))
        cosine = true * norms / self._scale
        cosine.attach_grad()
        with mx.autograd.record():
            margin = self._margin
            target = cosine + margin_change(cosine, m1=margin.m1, m2=margin.m2, m3=margin.m3, operators=mx.nd)
        target.backward()
        return cosine.detach() * here * self._scale, target.detach() * here * self._scale, cosine.grad

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
