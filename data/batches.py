"""Batches of a training set, each a pure function of the seed and the update."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import mxnet as mx
import numpy as np

from vargfacenet.data.augment import Augmentation
from vargfacenet.data.joined import JoinedSets
from vargfacenet.data.memory import ArrayPool, numpy_view
from vargfacenet.data.mix import Recipe, mix_faces, plan_mix
from vargfacenet.data.records import RecordSet
from vargfacenet.errors import DataError, SettingError
from vargfacenet.options import check_range

# These keep the random streams of epochs, batches and replacements apart from those of samples.
_EPOCHS, _BATCHES, _REPLACEMENTS = 1 << 62, 1 << 63, 3 << 62
_TRIES = 100

log = logging.getLogger(__name__)


class Shard(NamedTuple):
    """Part of each batch that one worker reads: with a world size of 2, rank 0 reads the first half."""

    rank: int = 0
    world_size: int = 1


def sample_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation in which an epoch visits `count` samples; seed and epoch alone decide it."""
    return np.random.Generator(np.random.Philox(key=[seed, _EPOCHS + epoch])).permutation(count)


class SampleRandom:
    """Random generators of samples, each decided by seed and sample alone.

    One generator is set to the state of each sample: creating a generator costs a fifth of decoding an image.
    """

    def __init__(self, seed: int) -> None:
        self._philox = np.random.Philox(key=[seed, 0])
        self._start = self._philox.state
        self._generator = np.random.Generator(self._philox)

    def of(self, sample: int) -> np.random.Generator:
        """Return a generator that equals ``Generator(Philox(key=[seed, sample]))``, valid until the next call."""
        self._start["state"]["key"][1] = sample
        self._philox.state = self._start
        return self._generator


class Facts(NamedTuple):
    """All of a batch besides its images, see `BatchReader.read`: each an array (N,)."""

    labels: np.ndarray
    places: np.ndarray
    mirrored: np.ndarray


class BatchReader:
    """Shuffled batches of a training set: every image once per epoch, none left over.

    Batches continue across the ends of epochs. A batch depends on the seed and the update alone: it is the same after a
    run is resumed, and for any number of workers.

    Parameters
    ----------
    records
        The training set.
    batch_size
        Images per batch, over all workers; a multiple of the world size.
    seed
        Decides order, augmentation and mixing.
    augment
        Applied to each image.
    mix
        Probability, 0 .. 1, of mixing each image with another one of its batch, see `vargfacenet.data.mix`.
    shard
        The part of each batch to read.
    max_bad_share
        Share of the images, 0 .. 1, that may be bad. Another image, which seed and sample alone decide, replaces each.

    Attributes
    ----------
    bad
        Bad images so far: place in ``records.keys``, and the reason.
    shape
        Of the images of a batch: (N, 3, height, width).
    mixes
        Faces are mixed, so that images do not hold whole numbers.

    Raises
    ------
    SettingError
        If a number is out of range.
    """

    def __init__(
        self,
        records: RecordSet | JoinedSets,
        *,
        batch_size: int,
        seed: int = 0,
        augment: Augmentation | None = None,
        mix: float = 0.0,
        shard: Shard = Shard(),  # noqa: B008 - immutable
        max_bad_share: float = 0.0,
    ) -> None:
        check_range("batch_size", batch_size, 1)
        check_range("max_bad_share", max_bad_share, 0, 1)
        if batch_size % shard.world_size:
            raise SettingError(
                f"batch_size={batch_size}: expected a multiple of the number of workers ({shard.world_size})"
            )
        count = batch_size // shard.world_size
        self.records, self.batch_size = records, batch_size
        self.shape = (count, 3, records.height, records.width)
        self.bad: dict[int, str] = {}
        self.mixes = bool(mix)
        self._rows = range(shard.rank * count, (shard.rank + 1) * count)
        self._max_bad_share = max_bad_share
        self._seed, self._augment, self._mix = seed, augment, mix
        self._hold()

    def read(self, update: int) -> mx.io.DataBatch:
        """Return the batch of an update; several threads may call this.

        With N = batch_size / world_size, the batch has `data`, float32 (N, 3, height, width), RGB, 0..255, `label`,
        float32 (N,), `index`, int64 (N,), the places of its images in ``records.keys``, and `mirrored`, bool (N,). For a
        replaced image, all of them describe the replacement.

        Raises
        ------
        DataError
            If more images are bad than `max_bad_share` allows.
        """
        data = self._arrays.take()
        facts = self.fill(update, numpy_view(data))
        batch = mx.io.DataBatch([data], [mx.nd.array(facts.labels)], pad=0, index=facts.places)
        batch.mirrored = facts.mirrored
        return batch

    def fill(self, update: int, own: np.ndarray) -> Facts:
        """Write the images of an update into an array and return the rest of its batch; see `read`.

        The array is of `shape`, float32 or, where images are not mixed, uint8.
        """
        rows, plan = self._plan_mix(update) if self._mix else (self._rows, [])
        # Mixing may need images of the batch that belong to another worker.
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
            # OpenCV keeps blue first, and splits channels several times faster than NumPy.
            images[at, 2], images[at, 1], images[at, 0] = cv2.split(image[:, :, ::-1])
        if plan:
            mix_faces(images, plan)
        count = len(own)
        if images is not own:
            own[:] = images[:count]
        return Facts(labels[:count], index[:count], mirrored[:count])

    def _face(self, index: int, sample: int) -> tuple[int, np.ndarray, int]:
        """Return index, image and label of an image, or of its replacement if it is bad."""
        random, reason = None, self.bad.get(index)
        for _ in range(_TRIES):
            if reason is None:
                try:
                    return (index, *self.records.read_face(int(self.records.keys[index])))
                except DataError as error:
                    self.count_bad(index, str(error))
            random = random or np.random.Generator(np.random.Philox(key=[self._seed, _REPLACEMENTS + sample]))
            index = int(random.integers(len(self.records)))
            reason = self.bad.get(index)
        raise DataError(f"{self.records}: {_TRIES} images in a row are bad; run 'vargfacenet data check' for a list")

    def count_bad(self, index: int, reason: str) -> None:
        """Add an image to `bad` and log it; DataError where these are more than are allowed."""
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
        log.warning("%s; another image replaces it (bad so far: %d, at most %d)", reason, len(self.bad), allowed)

    def __getstate__(self) -> dict[str, Any]:
        held = ("_bad_lock", "_arrays", "_order")
        return {name: value for name, value in vars(self).items() if name not in held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._hold()

    def _hold(self) -> None:
        """Make what belongs to one process."""
        count, seed = len(self.records), self._seed
        self._bad_lock, self._arrays = threading.Lock(), ArrayPool(self.shape)
        self._order = _Recent(lambda epoch: sample_order(count, seed, epoch))

    def _plan_mix(self, update: int) -> tuple[list[int], list[Recipe]]:
        """Return the rows of the whole batch that are needed, this worker's first, and recipes that refer to them."""
        random = np.random.Generator(np.random.Philox(key=[self._seed, _BATCHES + update]))
        whole = plan_mix((self.batch_size, *self.shape[1:]), self._mix, random)
        plan = whole[self._rows.start : self._rows.stop]
        rows = list(dict.fromkeys([*self._rows, *(recipe.other for recipe in plan if recipe)]))
        places = {row: place for place, row in enumerate(rows)}
        return rows, [recipe and recipe._replace(other=places[recipe.other]) for recipe in plan]


class _Recent:
    """Cache of a function's last few values, for several threads; each value is computed once."""

    def __init__(self, function: Callable[[int], np.ndarray], kept: int = 2) -> None:
        self._function, self._kept = function, kept
        self._values: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, argument: int) -> np.ndarray:
        with self._lock:
            if argument not in self._values:
                self._values[argument] = self._function(argument)
                if len(self._values) > self._kept:
                    self._values.popitem(last=False)
            return self._values[argument]
