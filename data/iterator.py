"""Batches of faces, decoded in parallel and ahead of the trainer."""

import concurrent.futures
import queue
import threading
import time

import mxnet as mx
import numpy as np

from vargfacenet.data.mix import mix_faces, plan_mix
from vargfacenet.environment import usable_cores
from vargfacenet.errors import SettingError
from vargfacenet.options import check_range

_EPOCHS, _BATCHES = 1 << 62, 1 << 63  # keep the streams of epochs and batches apart from those of samples


def sample_order(count, seed, epoch):
    """The order in which an epoch visits `count` samples: a permutation that seed and epoch alone decide."""
    return np.random.Generator(np.random.Philox(key=[seed, _EPOCHS + epoch])).permutation(count)


class FaceIterator(mx.io.DataIter):
    """Endless shuffled batches of a training set: every picture once an epoch, none left over.

    Batches run on over the ends of epochs. Batch ``u`` is the same whatever was read before it, so that a run can be
    taken up at any update, and however many workers share it, each of whom reads its own part: of 2, the first one has the
    first half of each batch's pictures.

    Parameters
    ----------
    records : RecordSet or JoinedSets
        The training set.
    batch_size : int
        Pictures in a batch, all workers together.
    seed : int
        Decides order and augmentation.
    augment : callable, optional
        ``augment(picture, random)`` for a uint8 array (height, width, 3), RGB, gives the picture to use and whether
        it is mirrored; see `Augmentation`.
    mix : float
        Share of the pictures, 0 .. 1, that are mixed with another of the batch, see `vargfacenet.data.mix`; their labels,
        ``index`` and ``mirrored`` then are of one of the two.
    first_update, last_update : int
        Batches ``first_update .. last_update - 1`` are given; no end without the latter.
    threads : int, optional
        Decoding threads; the usable cores by default.
    prefetch : int
        Batches held ready.
    rank, workers : int
        Which worker's part to give, 0 .. workers - 1, and how many share a batch.

    Attributes
    ----------
    waited : float
        Seconds the caller has waited for data so far.

    Notes
    -----
    With N = batch_size / workers, a batch has data float32 (N, 3, height, width), RGB, 0..255, and labels float32 (N,); its
    ``index`` says which pictures they are, int64 (N,), counted in the order of ``records.keys``, and its
    ``mirrored``, bool (N,), which of them are mirrored. A DataError of the reader is raised by the `next`
    that would have given the batch.
    """

    def __init__(
        self,
        records,
        *,
        batch_size,
        seed=0,
        augment=None,
        mix=0.0,
        first_update=0,
        last_update=None,
        threads=None,
        prefetch=4,
        rank=0,
        workers=1,
    ):
        check_range("batch_size", batch_size, 1)
        if batch_size % workers:
            raise SettingError(f"batch_size={batch_size}: expected a multiple of the number of workers ({workers})")
        share = batch_size // workers
        super().__init__(batch_size)
        self.records = records
        self.provide_data = [mx.io.DataDesc("data", (share, 3, records.height, records.width))]
        self.provide_label = [mx.io.DataDesc("softmax_label", (share,))]
        self._rows = range(rank * share, (rank + 1) * share)
        self.waited = 0.0
        self._seed, self._augment, self._mix = seed, augment, mix
        self._first, self._last = first_update, last_update
        self._threads = threads or usable_cores()
        self._prefetch = prefetch
        self._producer = None

    def epoch_of(self, update):
        """How many whole passes over the set lie before an update (int)."""
        return update * self.batch_size // len(self.records)

    def reset(self):
        """Starts again at the first update."""
        self.close()

    def next(self):
        if self._producer is None:
            self._start()
        begin = time.perf_counter()
        item = self._ready.get()
        self.waited += time.perf_counter() - begin
        if item is None:
            self._ready.put(None)
            raise StopIteration
        if isinstance(item, BaseException):
            self.close()
            raise item
        pictures, labels, index, mirrored = item
        batch = mx.io.DataBatch([mx.nd.array(pictures)], [mx.nd.array(labels)], pad=0, index=index)
        batch.mirrored = mirrored
        return batch

    def close(self):
        """Stops the threads; a later `next` starts them anew at the first update."""
        if self._producer is None:
            return
        self._stop.set()
        while self._producer.is_alive():
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue
        self._producer = None

    def _start(self):
        self._stop = threading.Event()
        self._ready = queue.Queue(self._prefetch)
        self._producer = threading.Thread(target=self._produce, args=(self._ready, self._stop), daemon=True)
        self._producer.start()

    def _produce(self, ready, stop):
        try:
            with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
                update, orders = self._first, {}
                while not stop.is_set() and (self._last is None or update < self._last):
                    ready.put(self._batch(update, orders, pool))
                    update += 1
            ready.put(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller of next() must see it
            ready.put(error)

    def _batch(self, update, orders, pool):
        samples = range(update * self.batch_size, (update + 1) * self.batch_size)
        rows, plan = list(self._rows), []
        if self._mix:
            rows, plan = self._plan_mix(update)
        epochs = {samples[row] // len(self.records) for row in rows}
        for epoch in set(orders) - epochs:
            del orders[epoch]
        for epoch in epochs - set(orders):
            orders[epoch] = sample_order(len(self.records), self._seed, epoch)
        pictures = np.empty((len(rows), *self.provide_data[0].shape[1:]), np.float32)
        labels = np.empty(len(rows), np.float32)
        index = np.empty(len(rows), np.int64)
        mirrored = np.zeros(len(rows), bool)

        def fill(places):
            for at in places:
                sample = samples[rows[at]]
                epoch, place = divmod(sample, len(self.records))
                index[at] = orders[epoch][place]
                picture, labels[at] = self.records.read_face(int(self.records.keys[index[at]]))
                if self._augment is not None:
                    random = np.random.Generator(np.random.Philox(key=[self._seed, sample]))
                    picture, mirrored[at] = self._augment(picture, random)
                pictures[at] = picture.transpose(2, 0, 1)

        parts = np.array_split(np.arange(len(rows)), self._threads)
        for done in [pool.submit(fill, part.tolist()) for part in parts]:
            done.result()
        if plan:
            mix_faces(pictures, plan)
        own = slice(len(self._rows))
        return pictures[own], labels[own], index[own], mirrored[own]

    def _plan_mix(self, update):
        """The rows of the whole batch that are needed, this worker's first, and how to mix those, counted among these."""
        random = np.random.Generator(np.random.Philox(key=[self._seed, _BATCHES + update]))
        whole = plan_mix((self.batch_size, *self.provide_data[0].shape[1:]), self._mix, random)
        plan = whole[self._rows.start : self._rows.stop]
        rows = list(dict.fromkeys([*self._rows, *(recipe.other for recipe in plan if recipe)]))
        places = {row: place for place, row in enumerate(rows)}
        return rows, [recipe and recipe._replace(other=places[recipe.other]) for recipe in plan]
