"""Random numbers and thread counts: what must be equal for a resumed run to end as the uninterrupted one."""

from __future__ import annotations

import logging
import os

import mxnet as mx
import numpy as np

log = logging.getLogger(__name__)


def seed_random(seed: int, generation: int, update: int, *, rank: int = 0) -> None:
    """Seed MXNet's random numbers (initial weights and dropout) for the time after an update of a generation.

    A run calls it before every update, so that the numbers of an update do not depend on where the run was resumed. Each
    worker draws other numbers; of the initial weights, those of worker 0 count.
    """
    parts = (seed, generation, update, rank) if rank else (seed, generation, update)
    mixed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    mx.random.seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002 - MXNet's initialisers draw from it


def warn_of_threads(folder: str | os.PathLike, saved: int | None, now: int | None) -> None:
    """Warn where the state in a folder was computed with another number of CPU threads than are in use now."""
    if saved is not None and now is not None and saved != now:
        log.warning(
            "%s was trained with %d CPU threads and continues with %d: sums are added up in another order, so it will end "
            "within rounding of the uninterrupted run, not bit for bit; set OMP_NUM_THREADS=%d for the same number",
            folder,
            saved,
            now,
            saved,
        )
