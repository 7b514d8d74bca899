"""Batches of faces, decoded in parallel and ahead of the trainer."""

import collections
import concurrent.futures
import logging
import threading
import time

import cv2
import mxnet as mx
import numpy as np

from vargfacenet.data.memory import Arrays, memory_of
from vargfacenet.data.mix import mix_faces, plan_mix
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError, SettingError
from vargfacenet.options import check_range

# These keep the streams of epochs, batches and replacements apart from those of samples.
_EPOCHS, _BATCHES, _REPLACEMENTS = 1 << 62, 1 << 63, 3 << 62
_TRIES = 100

log = logging.getLogger(__name__)


def sample_order(count, seed, epoch):
    """The order in which an epoch visits `count` samples: a permutation that seed and epoch alone decide."""
    return np.random.Generator(np.random.Philox(key=[seed, _EPOCHS + epoch])).permutation(count)


class SampleRandom:
    """The generators of samples, each decided by seed and sample alone.

    One generator that is set anew for each sample: making one costs a fifth of decoding an image.
    """

    def __init__(self, seed):
        self._philox = np.random.Philox(key=[seed, 0])
        self._start = self._philox.state
        self._generator = np.random.Generator(self._philox)

    def of(self, sample):
        """What ``Generator(Philox(key=[seed, sample]))`` would be; good until the next call."""
        self._start["state"]["key"][1] = sample
        self._philox.state = self._start
        return self._generator


class FaceIterator(mx.io.DataIter):
    """Endless shuffled batches of a training set: every image once an epoch, none left over.

    Batches run on over the ends of epochs. Batch ``u`` is the same whatever was read before it, so that a run can be
    taken up at any update, and however many workers share it, each of whom reads its own part: of 2, the first one has the
    first half of each batch's images.

    Parameters
    ----------
    records : RecordSet or JoinedSets
        The training set.
    batch_size : int
        Images in a batch, all workers together.
    seed : int
        Decides order and augmentation.
    augment : callable, optional
        ``augment(image, random)`` for a uint8 array (height, width, 3), RGB, gives the image to use and whether
        it is mirrored; see `Augmentation`.
    mix : float
        Share of the images, 0 .. 1, that are mixed with another of the batch, see `vargfacenet.data.mix`; their labels,
        ``index`` and ``mirrored`` then are of one of the two.
    first_update, last_update : int
        Batches ``first_update .. last_update - 1`` are given; no end without the latter.
    threads : int, optional
        Decoding threads; the usable cores by default.
    prefetch : int
        Batches held ready.
    rank, workers : int
        Which worker's part to give, 0 .. workers - 1, and how many share a batch.
    max_bad_share : float
        Share of the set's images, 0 .. 1, that may turn out to be bad. In the place of a bad one comes another, which seed
        and sample alone decide: it is the same in a run that was taken up, and for any number of workers.

    Attributes
    ----------
    bad : dict of int to str
        The bad images met so far, counted in the order of ``records.keys``, and what is wrong with each.
    waited : float
        Seconds the caller has waited for data so far.

    Notes
    -----
    With N = batch_size / workers, a batch has data float32 (N, 3, height, width), RGB, 0..255, and labels float32 (N,); its
    ``index`` says which images they are, int64 (N,), counted in the order of ``records.keys``, and its
    ``mirrored``, bool (N,), which of them are mirrored; where a bad image was replaced, both are of the other one. A
    DataError, of more bad images than may be, is raised by the `next` that would have given the batch.
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
        max_bad_share=0.0,
    ):
        check_range("batch_size", batch_size, 1)
        check_range("max_bad_share", max_bad_share, 0, 1)
        if batch_size % workers:
            raise SettingError(f"batch_size={batch_size}: expected a multiple of the number of workers ({workers})")
        share = batch_size // workers
        super().__init__(batch_size)
        self.records = records
        self.provide_data = [mx.io.DataDesc("data", (share, 3, records.height, records.width))]
        self.provide_label = [mx.io.DataDesc("softmax_label", (share,))]
        self._rows = range(rank * share, (rank + 1) * share)
        self.waited, self.bad = 0.0, {}
        self._max_bad_share, self._bad_lock = max_bad_share, threading.Lock()
        self._seed, self._augment, self._mix = seed, augment, mix
        self._first, self._last = first_update, last_update
        self._threads = threads or usable_cores()
        self._prefetch = prefetch
        self._arrays = Arrays(self.provide_data[0].shape)
        self._order = _Latest(lambda epoch: sample_order(len(records), seed, epoch))
        self._pool = None
        self.close()

    def epoch_of(self, update):
        """How many whole passes over the set lie before an update (int)."""
        return update * self.batch_size // len(self.records)

    def reset(self):
        """Starts again at the first update."""
        self.close()

    def next(self):
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self._threads)
        while len(self._ahead) <= max(self._prefetch, self._threads) and self._update != self._last:
            self._ahead.append(self._pool.submit(self._batch, self._update))
            self._update += 1
        if not self._ahead:
            raise StopIteration
        begin = time.perf_counter()
        try:
            return self._ahead.popleft().result()
        except BaseException:
            self.close()
            raise
        finally:
            self.waited += time.perf_counter() - begin

    def close(self):
        """Stops the threads; a later `next` starts them anew at the first update."""
        if self._pool is not None:
            for batch in self._ahead:
                batch.cancel()
            self._pool.shutdown()
        self._pool, self._ahead, self._update = None, collections.deque(), self._first

    def _batch(self, update):
        rows, plan = self._plan_mix(update) if self._mix else (self._rows, [])
        data = self._arrays.take()
        own = memory_of(data)
        # Mixing may need images of the batch that are another worker's.
        images = own if len(rows) == len(own) else np.empty((len(rows), *own.shape[1:]), np.float32)
        labels = np.empty(len(rows), np.float32)
        index = np.empty(len(rows), np.int64)
        mirrored = np.zeros(len(rows), bool)
        random = SampleRandom(self._seed)
        for at, row in enumerate(rows):
            sample = update * self.batch_size + row
            epoch, place = divmod(sample, len(self.records))
            index[at], image, labels[at] = self._face(int(self._order(epoch)[place]), sample)
            if self._augment is not None:
                image, mirrored[at] = self._augment(image, random.of(sample))
            # OpenCV keeps blue first, and is several times quicker than NumPy at taking channels apart.
            images[at, 2], images[at, 1], images[at, 0] = cv2.split(image[:, :, ::-1])
        if plan:
            mix_faces(images, plan)
        count = len(own)
        if images is not own:
            own[:] = images[:count]
        batch = mx.io.DataBatch([data], [mx.nd.array(labels[:count])], pad=0, index=index[:count])
        batch.mirrored = mirrored[:count]
        return batch

    def _face(self, index, sample):
        """The image at an index, or where it is bad one that stands in for it: index, image, label."""
        random, reason = None, self.bad.get(index)
        for _ in range(_TRIES):
            if reason is None:
                try:
                    return (index, *self.records.read_face(int(self.records.keys[index])))
                except DataError as error:
                    self._count(index, str(error))
            random = random or np.random.Generator(np.random.Philox(key=[self._seed, _REPLACEMENTS + sample]))
            index = int(random.integers(len(self.records)))
            reason = self.bad.get(index)
        raise DataError(f"{self.records}: {_TRIES} images in a row are bad; run 'vargfacenet data check' for a list")

    def _count(self, index, reason):
        allowed, total = int(self._max_bad_share * len(self.records)), len(self.records)
        with self._bad_lock:
            if index in self.bad:
                return
            if len(self.bad) >= allowed:
                raise DataError(
                    f"{reason}; with it {len(self.bad) + 1} of {total} images are bad, and max_bad_share="
                    f"{self._max_bad_share:g} allows {allowed}: 'vargfacenet data check' lists all; a larger max_bad_share "
                    "trains without them"
                )
            self.bad[index] = reason
        log.warning("%s; another image takes its place (bad so far: %d, at most %d)", reason, len(self.bad), allowed)

    def _plan_mix(self, update):
        """The rows of the whole batch that are needed, this worker's first, and how to mix those, counted among these."""
        random = np.random.Generator(np.random.Philox(key=[self._seed, _BATCHES + update]))
        whole = plan_mix((self.batch_size, *self.provide_data[0].shape[1:]), self._mix, random)
        plan = whole[self._rows.start : self._rows.stop]
        rows = list(dict.fromkeys([*self._rows, *(recipe.other for recipe in plan if recipe)]))
        places = {row: place for place, row in enumerate(rows)}
        return rows, [recipe and recipe._replace(other=places[recipe.other]) for recipe in plan]


class _Latest:
    """A function's values at the last few arguments, for several threads at once; each is worked out once."""

    def __init__(self, function, kept=2):
        self._function, self._kept = function, kept
        self._values = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, argument):
        with self._lock:
            if argument not in self._values:
                self._values[argument] = self._function(argument)
                if len(self._values) > self._kept:
                    self._values.popitem(last=False)
            return self._values[argument]
