"""What a run leaves to go on from, and the two checkpoints that are made of it."""

import json
import logging
import pathlib

import numpy as np

from vargfacenet.errors import CheckpointError, DataError
from vargfacenet.formats.checkpoint import fitting_parameters, save_checkpoint
from vargfacenet.formats.files import remove_leftovers, write_text
from vargfacenet.train.callbacks import VERIFICATION, best_update
from vargfacenet.train.states import States

log = logging.getLogger(__name__)


class Keeper:
    """Saves the state from which a run can be taken up, and then the checkpoints ``latest`` and ``best``.

    Every `every` updates, at the end, and where a verification was the best so far.

    Parameters
    ----------
    embedding : mx.sym.Symbol
        The plain graph.
    trainer : Trainer
        Whose state it is.
    verifier : Verifier
        Whose scores are a part of it.
    out : path
        The generation's folder.
    facts : dict
        What else is a part of it, see `States.save`.
    every, total, keep : int
        Updates between saves, updates of the generation, and states kept besides the best one's.
    """

    def __init__(self, embedding, trainer, verifier, out, facts, *, every, total, keep):
        self._embedding, self._trainer, self._verifier = embedding, trainer, verifier
        self._out, self._facts = pathlib.Path(out), facts
        self._every, self._total, self._keep = every, total, keep
        self.saved = None  # the update after which it saved last

    def needs_parameters(self, update):
        return update % self._every == 0

    def after_update(self, update, means, seconds):
        if self.needs_parameters(update) or update == self._total or best_update(self._verifier.scores) == update:
            self.save(update)

    def save(self, update):
        """Saves the state after an update; CheckpointError where it is not finite, and what is there then stays."""
        arrays = self._trainer.state()
        for name, value in arrays.items():
            if not np.isfinite(value.asnumpy()).all():
                raise CheckpointError(f"update {update}: {name} holds NaN or infinity; try a smaller lr")
        scores = self._verifier.scores
        best = best_update(scores)
        facts = {**self._facts, "verifications": scores}
        States(self._out).save(update, arrays, facts, keep=self._keep, best=best)
        _leave(self._out / "latest", self._embedding, arrays)
        if best == update:
            _leave(self._out / "best", self._embedding, arrays)
        self.saved = update


class Follower:
    """What the workers do that write nothing: they stop where worker 0 does."""

    def __init__(self, config, *, verified):
        self._save, self._verify = config.save_every, config.verify_every if verified else None

    def needs_parameters(self, update):
        return update % self._save == 0 or (self._verify is not None and update % self._verify == 0)

    def after_update(self, update, means, seconds):
        pass

    def close(self):
        pass


def restore(out, embedding):
    """Makes checkpoints and scores in a folder those of its newest sound state, whatever a stop or damage left there.

    Returns
    -------
    dict, dict of str to NDArray
        What that state says, and its arrays.

    Raises
    ------
    CheckpointError
        Where no state is sound, or the arrays are not those of the graph.
    """
    out, states = pathlib.Path(out), States(out)
    remove_leftovers(out)
    saved = states.newest(told=True)
    arrays = states.arrays(saved["update"])
    fitting_parameters(embedding, *_parts(arrays), f"the state in {out}")
    _leave(out / "latest", embedding, arrays)
    scores = {int(update): values for update, values in saved["verifications"].items()}
    saved["verifications"] = scores
    if scores:
        write_text(out / VERIFICATION, json.dumps(scores, indent=1) + "\n")
    best = best_update(scores)
    if best is not None:
        try:
            states.read(best)
        except (CheckpointError, DataError) as error:
            log.warning("%s: the checkpoint 'best' in %s is left as it is", error, out)
        else:
            _leave(out / "best", embedding, states.arrays(best))
    return saved, arrays


def _leave(prefix, embedding, arrays):
    save_checkpoint(prefix, 0, embedding, *_parts(arrays))


def _parts(arrays):
    """Parameters and running statistics of a state (two dicts of name to NDArray)."""
    return tuple({key[4:]: value for key, value in arrays.items() if key.startswith(kind)} for kind in ("arg:", "aux:"))
