"""What workers that share a classifier tell one another: sums, and what can be made of sums."""

import mxnet as mx


class Alone:
    """The exchange of the only worker there is.

    An exchange has a ``rank``, 0 .. size - 1, a ``size``, and ``sum``, which all workers call in the same order.
    """

    rank, size = 0, 1

    def sum(self, name, array):
        """The sum over all workers of a float32 NDArray, of one shape in all of them.

        Parameters
        ----------
        name : str
            Of the array; the same name and shape come again in each update.
        array : NDArray
            This worker's; it may be overwritten.
        """
        return array


ALONE = Alone()


class OverStore:
    """The exchange of a cluster's workers, over its parameter store.

    Parameters
    ----------
    cluster : Cluster
        Of `vargfacenet.train.cluster`.
    """

    def __init__(self, cluster):
        self.rank, self.size, self._store = cluster.rank, cluster.size, cluster.store

    def sum(self, name, array):
        """As of `Alone`; not waited for."""
        return self._store.sum(name, array).as_in_context(array.context) if self.size > 1 else array


def gather(exchange, name, array):
    """The arrays of all workers, one after another: (N, ...) -> (size * N, ...).

    As a sum of arrays that are zero but for one worker's rows each, so that every number arrives as it is.
    """
    if exchange.size == 1:
        return array
    rows = mx.nd.zeros((exchange.size, *array.shape), ctx=array.context)
    rows[exchange.rank] = array
    return exchange.sum(name, rows).reshape((-1, *array.shape[1:]))
