"""The callbacks of every run: what happens next to its updates.

Worker 0 has `Progress`, `vargfacenet.train.monitor.Monitor`, `Verifier` and
`vargfacenet.train.checkpoint_writer.CheckpointWriter`; the other workers have `Follower`. Callbacks that the settings
name (`vargfacenet.train.callback`) come before the `Verifier`.
"""

from __future__ import annotations

import logging
import math
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import mxnet as mx
import tqdm

from vargfacenet.data import FaceIterator
from vargfacenet.eval import verify_pairs
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.eval.pairs import Pairs
from vargfacenet.progress import progress
from vargfacenet.train.callback import Callback, UpdateResult
from vargfacenet.train.engine import Arrays, Schedule
from vargfacenet.train.expected_end import ExpectedEnd
from vargfacenet.train.run_log import RunLog
from vargfacenet.train.scores import Scores, SetScores, write_scores

log = logging.getLogger(__name__)


class Every(NamedTuple):
    """Updates at which something is due: multiples of a number, and the last update.

    Attributes
    ----------
    updates
        The number.
    last
        The last update of the generation.
    """

    updates: int
    last: int

    def includes(self, update: int) -> bool:
        """Return True where it is due after an update."""
        return update % self.updates == 0 or update == self.last


class Follower(Callback):
    """The callback of workers that write nothing: they synchronise when worker 0 saves or verifies.

    Parameters
    ----------
    saves, verifications
        When worker 0 saves, and when it verifies, if it does.
    """

    def __init__(self, saves: Every, verifications: Every | None) -> None:
        self._saves, self._verifications = saves, verifications

    def needs_parameters(self, update: int) -> bool:
        verifies = self._verifications is not None and self._verifications.includes(update)
        return verifies or self._saves.includes(update)


class Progress(Callback):
    """Reports losses, accuracy, learning rate, speed and waiting: a bar on a terminal, lines elsewhere, JSON always.

    Each line of ``log.jsonl`` holds ``update``, ``epoch`` (passes over the data), the outputs of
    `vargfacenet.symbols.objective.objective` (means since the last line), ``lr``, ``images_per_second`` and ``waiting``
    (share of the time spent waiting for data). ``bad_images``, where there are any, is how many were met so far.
    ``metrics.csv`` holds the same as a table.

    Parameters
    ----------
    iterator
        The data.
    schedule
        Learning rate of an update.
    out
        The generation's folder.
    due
        When a line is written.
    updates_before
        Updates of earlier generations.
    end
        The expected end of the run; by default that of a run of this generation.
    """

    def __init__(
        self,
        iterator: FaceIterator,
        schedule: Schedule,
        out: str | os.PathLike,
        *,
        due: Every,
        updates_before: int = 0,
        end: ExpectedEnd | None = None,
    ) -> None:
        self._iterator, self._schedule = iterator, schedule
        self._due, self._updates_before = due, updates_before
        self._end = end or ExpectedEnd(updates_before + due.last)
        self._log = RunLog(out)
        self._bar = tqdm.tqdm(total=due.last, unit="update", file=sys.stderr) if sys.stderr.isatty() else None
        self._restart(0.0)

    def after_update(self, result: UpdateResult) -> None:
        self._means.append(result.means)
        if self._end.measure(self._updates_before + result.update):
            log.info("expected end: %s, in %s", self._end.time_of_day, self._end.duration)
        if self._bar is not None:
            values = {name: f"{value:.3f}" for name, value in result.means.items()}
            if self._end.time_of_day is not None:
                values["end"] = self._end.time_of_day
            self._bar.n = result.update
            self._bar.set_postfix(values, refresh=False)
            self._bar.update(0)
        if self._due.includes(result.update):
            self._line(result.update, result.seconds - self._begin)
            self._restart(result.seconds)

    def close(self) -> None:
        self._log.close()
        if self._bar is not None:
            self._bar.close()

    def _line(self, update: int, seconds: float) -> None:
        count = len(self._means)
        means = {name: math.fsum(mean[name] for mean in self._means) / count for name in self._means[0]}
        line = {
            "update": update,
            "epoch": self._iterator.epoch_of(self._updates_before + update),
            **{name: round(mean, 6) for name, mean in means.items()},
            "lr": self._schedule(update),
            "images_per_second": round(count * self._iterator.batch_size / seconds, 2),
            "waiting": round((self._iterator.waited - self._waited) / seconds, 4),
        }
        if self._iterator.bad:
            line["bad_images"] = len(self._iterator.bad)
        self._log.append(line)
        if self._bar is not None:
            return
        log.info(
            "update %d/%d  epoch %d  %s  lr %.5f  %.1f images/s  waiting for data %.1f%%%s",
            update,
            self._due.last,
            line["epoch"],
            "  ".join(f"{name.replace('_', ' ')} {mean:.4f}" for name, mean in means.items()),
            line["lr"],
            line["images_per_second"],
            100 * line["waiting"],
            f"  end {self._end.time_of_day}" if self._end.time_of_day else "",
        )

    def _restart(self, seconds: float) -> None:
        self._means: list[dict[str, float]] = []
        self._begin, self._waited = seconds, self._iterator.waited


class Verifier(Callback):
    """Scores the network on verification sets, and writes the scores to ``verification.json``.

    Parameters
    ----------
    embedding
        The plain graph.
    read
        Returns the parameters and running statistics to score.
    pairs
        Verification sets by name.
    out
        The generation's folder.
    due
        When to score.
    device
        Where to embed.
    scores
        Scores that a resumed run has already.

    Attributes
    ----------
    scores
        The scores so far.
    """

    def __init__(
        self,
        embedding: mx.sym.Symbol,
        read: Callable[[], tuple[Arrays, Arrays]],
        pairs: Mapping[str, Pairs],
        out: str | os.PathLike,
        *,
        due: Every,
        device: mx.Context | None = None,
        scores: Scores | None = None,
    ) -> None:
        self._embedding, self._read, self._pairs = embedding, read, pairs
        self._out, self._device, self._due = pathlib.Path(out), device, due
        self.scores: Scores = scores or {}

    def needs_parameters(self, update: int) -> bool:
        return bool(self._pairs) and self._due.includes(update)

    def begin(self, known: SetScores | None = None) -> None:
        """Score the network before its first update, unless its scores are known."""
        if self._pairs and known:
            self._write({0: known})
        elif self._pairs:
            self._verify(0)

    def after_update(self, result: UpdateResult) -> None:
        if self._pairs and self._due.includes(result.update):
            self._verify(result.update)

    def _verify(self, update: int) -> None:
        args, auxs = self._read()
        names = set(self._embedding.list_arguments())
        args = {name: value for name, value in args.items() if name in names}
        embedder = make_embedder(self._embedding, args, auxs, device=self._device)
        scores = {}
        for name, pairs in self._pairs.items():
            with progress(total=len(pairs.images), unit="image", desc=f"verifying on {name}", leave=False) as bar:
                score = verify_pairs(embedder, pairs, progress=bar.update)
            scores[name] = score.as_dict()
            log.info("update %d  %s: accuracy %.5f +- %.5f", update, name, score.accuracy, score.std)
        self._write({**self.scores, update: scores})

    def _write(self, scores: Scores) -> None:
        self.scores = scores
        write_scores(self._out, scores)
