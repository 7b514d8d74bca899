"""What happens beside the updates of a run: reports, checkpoints, verification."""

import json
import logging
import math
import pathlib
import sys

import tqdm

from vargfacenet.checkpoint import save_checkpoint
from vargfacenet.eval import Embedder, verify_pairs
from vargfacenet.files import write_text
from vargfacenet.train.state import save_state

LOG = "log.jsonl"

log = logging.getLogger(__name__)


class Progress:
    """Reports loss, accuracy, learning rate, speed and waiting: a bar on a terminal, lines elsewhere, JSON always.

    Each line of ``log.jsonl`` holds ``update``, ``epoch`` (passes over the data), ``loss`` and ``accuracy`` (means since
    the last line), ``lr``, ``images_per_second`` and ``waiting`` (share of the time spent waiting for data).
    """

    def __init__(self, iterator, schedule, out, *, every, total):
        self._iterator, self._schedule = iterator, schedule
        self._every, self._total = every, total
        self._file = open(pathlib.Path(out) / LOG, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self._bar = tqdm.tqdm(total=total, unit="update", file=sys.stderr) if sys.stderr.isatty() else None
        self._restart(0.0)

    def needs_parameters(self, update):
        return False

    def after_update(self, update, loss, accuracy, seconds):
        self._losses.append(loss)
        self._accuracies.append(accuracy)
        if self._bar is not None:
            self._bar.n = update
            self._bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
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
        line = {
            "update": update,
            "epoch": self._iterator.epoch_of(update),
            "loss": round(math.fsum(self._losses) / len(self._losses), 5),
            "accuracy": round(math.fsum(self._accuracies) / len(self._accuracies), 5),
            "lr": self._schedule(update),
            "images_per_second": round(len(self._losses) * self._iterator.batch_size / seconds, 2),
            "waiting": round((self._iterator.waited - self._waited) / seconds, 4),
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._bar is not None:
            return
        log.info(
            "update %d/%d  epoch %d  loss %.4f  accuracy %.4f  lr %.5f  %.1f images/s  waiting for data %.1f%%",
            update,
            self._total,
            line["epoch"],
            line["loss"],
            line["accuracy"],
            line["lr"],
            line["images_per_second"],
            100 * line["waiting"],
        )

    def _restart(self, seconds):
        self._losses, self._accuracies = [], []
        self._begin, self._waited = seconds, self._iterator.waited


class Keeper:
    """Saves the latest checkpoint and the state from which the run can be taken up."""

    def __init__(self, embedding, trainer, out, *, every, total):
        self._embedding, self._trainer = embedding, trainer
        self._out, self._every, self._total = pathlib.Path(out), every, total

    def needs_parameters(self, update):
        return update % self._every == 0

    def after_update(self, update, loss, accuracy, seconds):
        if self.needs_parameters(update) or update == self._total:
            save_checkpoint(self._out / "latest", 0, self._embedding, *self._trainer.parameters())
            save_state(self._out, self._trainer, update)


class Verifier:
    """Scores the network on verification sets and keeps the checkpoint with the best mean accuracy.

    Scores go to ``verification.json``: update, set, fields of `vargfacenet.eval.Verification`.
    """

    def __init__(self, embedding, trainer, pairs, out, device, *, every, total, resume=False):
        self._embedding, self._trainer, self._pairs = embedding, trainer, pairs
        self._file = pathlib.Path(out) / "verification.json"
        self._out, self._device = pathlib.Path(out), device
        self._every, self._total = every, total
        self._scores = {}
        if resume and self._file.is_file():
            self._scores = {int(update): scores for update, scores in json.loads(self._file.read_text()).items()}

    @property
    def best_update(self):
        """The update with the best mean accuracy, the untrained network left out; None before any."""
        trained = [update for update in self._scores if update > 0]
        return max(trained, key=lambda update: (self._mean(update), -update)) if trained else None

    def verifications(self):
        """All scores so far: dict of update to dict of set name to dict."""
        return dict(self._scores)

    def needs_parameters(self, update):
        return bool(self._pairs) and update % self._every == 0

    def begin(self, update):
        """Scores the untrained network; a resumed run has it already and drops what it will measure again."""
        self._scores = {done: scores for done, scores in self._scores.items() if done <= update}
        if self._pairs and update == 0:
            self._verify(0)

    def after_update(self, update, loss, accuracy, seconds):
        if self._pairs and (update % self._every == 0 or update == self._total):
            self._verify(update)
            if self.best_update == update:
                save_checkpoint(self._out / "best", 0, self._embedding, *self._trainer.parameters())

    def _verify(self, update):
        args, auxs = self._trainer.parameters()
        names = set(self._embedding.list_arguments())
        args = {name: value for name, value in args.items() if name in names}
        embedder = Embedder(self._embedding, args, auxs, device=self._device)
        self._scores[update] = {}
        for name, pairs in self._pairs.items():
            score = verify_pairs(embedder, pairs)
            self._scores[update][name] = score.as_dict()
            log.info("update %d  %s: accuracy %.5f +- %.5f", update, name, score.accuracy, score.std)
        write_text(self._file, json.dumps(self._scores, indent=1) + "\n")

    def _mean(self, update):
        accuracies = [score["accuracy"] for score in self._scores[update].values()]
        return sum(accuracies) / len(accuracies)
