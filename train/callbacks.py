"""What happens beside the updates of a run: reports, checkpoints, verification."""

import json
import logging
import math
import pathlib
import sys

import tqdm

from vargfacenet.errors import DataError
from vargfacenet.eval import verify_pairs
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.files import read_json, write_text

LOG, VERIFICATION = "log.jsonl", "verification.json"

log = logging.getLogger(__name__)


class Progress:
    """Reports losses, accuracy, learning rate, speed and waiting: a bar on a terminal, lines elsewhere, JSON always.

    Each line of ``log.jsonl`` holds ``update``, ``epoch`` (passes over the data), the outputs of
    `vargfacenet.symbols.objective.objective` (means since the last line), ``lr``, ``images_per_second`` and ``waiting``
    (share of the time spent waiting for data); ``bad_pictures``, where there are any, is how many were met so far.
    """

    def __init__(self, iterator, schedule, out, *, every, total, updates_before=0):
        self._iterator, self._schedule = iterator, schedule
        self._every, self._total, self._updates_before = every, total, updates_before
        self._path = pathlib.Path(out) / LOG
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - closed in close()
        self._bar = tqdm.tqdm(total=total, unit="update", file=sys.stderr) if sys.stderr.isatty() else None
        self._restart(0.0)

    def needs_parameters(self, update):
        return False

    def after_update(self, update, means, seconds):
        self._means.append(means)
        if self._bar is not None:
            self._bar.n = update
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
            self._bar.update(0)
        if update % self._every == 0 or update == self._total:
            self._line(update, seconds - self._begin)
            self._restart(seconds)

    def close(self):
        """Closes the file and the bar."""
        self._file.close()
        if self._bar is not None:
            self._bar.close()

    def _line(self, update, seconds):
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
            line["bad_pictures"] = len(self._iterator.bad)
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise DataError(f"cannot write {self._path}: {error.strerror or error}") from error
        if self._bar is not None:
            return
        log.info(
            "update %d/%d  epoch %d  %s  lr %.5f  %.1f images/s  waiting for data %.1f%%",
            update,
            self._total,
            line["epoch"],
            "  ".join(f"{name.replace('_', ' ')} {mean:.4f}" for name, mean in means.items()),
            line["lr"],
            line["images_per_second"],
            100 * line["waiting"],
        )

    def _restart(self, seconds):
        self._means = []
        self._begin, self._waited = seconds, self._iterator.waited


class Verifier:
    """Scores the network on verification sets.

    Scores go to ``verification.json``: update, set, fields of `vargfacenet.eval.Verification`.

    Attributes
    ----------
    scores : dict
        Of update to dict of set name to these fields; those given, where the run has some already.
    """

    def __init__(self, embedding, trainer, pairs, out, device, *, every, total, scores=None):
        self._embedding, self._trainer, self._pairs = embedding, trainer, pairs
        self._out, self._device = pathlib.Path(out), device
        self._every, self._total = every, total
        self.scores = scores or {}

    def needs_parameters(self, update):
        return bool(self._pairs) and update % self._every == 0

    def begin(self, update, known=None):
        """Scores the network before its first update, unless its scores are known; a resumed run has them already."""
        if self._pairs and update == 0:
            if known:
                self._write({0: known})
            else:
                self._verify(0)

    def after_update(self, update, means, seconds):
        if self._pairs and (update % self._every == 0 or update == self._total):
            self._verify(update)

    def _verify(self, update):
        args, auxs = self._trainer.parameters()
        names = set(self._embedding.list_arguments())
        args = {name: value for name, value in args.items() if name in names}
        embedder = make_embedder(self._embedding, args, auxs, device=self._device)
        scores = {}
        for name, pairs in self._pairs.items():
            score = verify_pairs(embedder, pairs)
            scores[name] = score.as_dict()
            log.info("update %d  %s: accuracy %.5f +- %.5f", update, name, score.accuracy, score.std)
        self._write({**self.scores, update: scores})

    def _write(self, scores):
        self.scores = scores
        write_text(self._out / VERIFICATION, json.dumps(scores, indent=1) + "\n")


def read_verifications(out):
    """The scores in a folder: dict of update to dict of set name to fields of a Verification; empty where none are."""
    path = pathlib.Path(out) / VERIFICATION
    return {int(update): scores for update, scores in read_json(path, limit=1 << 30).items()} if path.is_file() else {}


def mean_accuracy(scores):
    """Mean accuracy over verification sets (dict of set name to fields)."""
    return sum(score["accuracy"] for score in scores.values()) / len(scores)


def best_update(verifications):
    """The update with the best mean accuracy, the first of equals, the start left out; None where there is no other."""
    trained = [update for update in verifications if update > 0]
    return max(trained, key=lambda update: (mean_accuracy(verifications[update]), -update)) if trained else None
