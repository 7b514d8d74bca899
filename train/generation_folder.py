"""The folder of one generation: training states, checkpoints, scores, settings and log.

`vargfacenet.train.run_folder.RunFolder` owns these folders and has them locked, see there.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import mxnet as mx

from vargfacenet.errors import CheckpointError, DataError, SettingError
from vargfacenet.formats.checkpoint import fitting_parameters, load_checkpoint, save_checkpoint
from vargfacenet.formats.files import remove_leftovers, write_text
from vargfacenet.train.config import Config, config_from, fixed_settings
from vargfacenet.train.engine import Arrays
from vargfacenet.train.run_log import cut_log
from vargfacenet.train.scores import Scores, best_update, mean_accuracy, read_scores, write_scores
from vargfacenet.train.training_state import TrainingState, TrainingStates

CONFIG, DATA = "config.json", "data.json"
_OLD_FACTS = {"pictures": "images"}  # names of facts that earlier versions wrote: old to new

log = logging.getLogger(__name__)


class Generation(NamedTuple):
    """The results of a generation.

    Attributes
    ----------
    out
        Its folder.
    verifications
        Its scores; those of update 0 are of the network that it began with.
    best_update
        Update of the checkpoint ``best``; None where nothing was verified.
    """

    out: pathlib.Path
    verifications: Scores
    best_update: int | None


class GenerationFolder:
    """The folder of one generation: training states, checkpoints, scores, settings and log.

    Parameters
    ----------
    path
        The folder, which need not exist.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)
        self._states = TrainingStates(path)

    @property
    def started(self) -> bool:
        """True where the folder holds a training state, sound or not."""
        return bool(self._states.updates())

    @functools.cached_property
    def state(self) -> TrainingState:
        """The newest sound state, read from the disk once; CheckpointError where there is none."""
        return self._states.newest()

    def check_settings(self, config: Config, *, force: bool = False) -> None:
        """Raise SettingError, naming what differs, where the settings of the state are not `config`.

        With `force` only what cannot be continued is an error. AdamW divides its means by their share of all updates: if they
        began at 0 after many, its updates would be several times too large. SGD may begin without momentum.
        """
        saved = config_from(self.state.facts["settings"])  # of this version or an earlier one
        self._compare("with other settings", fixed_settings(saved), fixed_settings(config), force)
        update = self.state.update
        if config.optimizer == "adamw" != saved.optimizer and 0 < update < config.max_updates:
            raise SettingError(
                f"{self.path} has made {update} updates with optimizer={saved.optimizer}, which keeps no means for adamw: give "
                f"--set optimizer={saved.optimizer}, or another --out and --set init={self.path / 'latest'}"
            )

    def check_data(self, facts: Mapping[str, Any], *, force: bool = False) -> None:
        """Raise SettingError, naming what differs, where the state is of other data: `facts` are JSON values."""
        self._compare("on other data", present_facts(self.state.facts["data"]), facts, force)

    def begin(self, config: Config, facts: Mapping[str, Any], update: int) -> None:
        """Write settings and facts of the data, and cut off what the log holds after an update."""
        write_text(self.path / CONFIG, config.to_json())
        write_text(self.path / DATA, json.dumps(facts, indent=1) + "\n")
        cut_log(self.path, update)

    def save(
        self,
        update: int,
        arrays: Arrays,
        facts: Mapping[str, Any],
        *,
        embedding: mx.sym.Symbol,
        scores: Scores,
        keep: int,
    ) -> None:
        """Save the state after an update, then the checkpoints ``latest`` and, where it is the best one, ``best``.

        Parameters
        ----------
        update, arrays, facts, keep
            As of `TrainingStates.save`.
        embedding
            The graph of the checkpoints.
        scores
            All verifications up to now.
        """
        best = best_update(scores)
        self.state = self._states.save(update, arrays, {**facts, "verifications": scores}, keep=keep, best=best)
        self._save_checkpoint("latest", embedding, self.state, arrays)
        if best == update:
            self._save_checkpoint("best", embedding, self.state, arrays)

    def restore(self, embedding: mx.sym.Symbol) -> Arrays:
        """Make checkpoints and scores those of the newest sound state, and return its arrays.

        Raises
        ------
        CheckpointError
            Where no state is sound, or the arrays are not those of the graph.
        """
        remove_leftovers(self.path)
        arrays = self.state.load_arrays()
        fitting_parameters(embedding, *_parameters(arrays), f"the state in {self.path}")
        self._save_checkpoint("latest", embedding, self.state, arrays)
        scores = self.state.scores
        if scores:
            write_scores(self.path, scores)
        best = best_update(scores)
        if best == self.state.update:
            self._save_checkpoint("best", embedding, self.state, arrays)
        elif best is not None:
            try:
                state = self._states.read(best)
            except (CheckpointError, DataError) as error:
                log.warning("%s: the checkpoint 'best' in %s is left as it is", error, self.path)
            else:
                self._save_checkpoint("best", embedding, state, state.load_arrays())
        return arrays

    def is_written(self, embedding: mx.sym.Symbol) -> bool:
        """Return True where the checkpoint ``latest`` is that of the newest sound state, which a stop can prevent."""
        try:
            _, *saved = load_checkpoint(self.path / "latest", 0)
        except CheckpointError:
            return False
        wanted = fitting_parameters(embedding, *_parameters(self.student()), f"the state in {self.path}")
        pairs = zip(saved, wanted)
        return all(
            one.keys() == other.keys() and all((one[name] == other[name]).asnumpy().all() for name in one)
            for one, other in pairs
        )

    def result(self) -> Generation:
        """Return what the generation left."""
        scores = read_scores(self.path)
        return Generation(self.path, scores, best_update(scores))

    def student(self) -> Arrays:
        """Return the network that the newest state left, as its checkpoint has it, and the classifier (``arg:``, ``aux:``)."""
        return _written(self.state, self.state.load_arrays())

    def _save_checkpoint(self, name: str, embedding: mx.sym.Symbol, state: TrainingState, arrays: Arrays) -> None:
        save_checkpoint(self.path / name, 0, embedding, *_parameters(_written(state, arrays)))

    def _compare(self, how: str, saved: Mapping[str, Any], given: Mapping[str, Any], force: bool) -> None:
        changed = "; ".join(
            f"{name}: {saved.get(name)} then, {value} now" for name, value in given.items() if saved.get(name) != value
        )
        if changed and not force:
            raise SettingError(
                f"{self.path} was started {how} ({changed}); give the same to resume it, or --force to continue with "
                "the new ones"
            )
        if changed:
            log.warning("%s was started %s, and continues with the new ones: %s", self.path, how, changed)


def best_generation(generations: list[Generation]) -> Generation | None:
    """Return the generation with the best mean accuracy, the first of equals; None where none was verified."""
    best, most = None, 0.0
    for generation in generations:
        if generation.best_update is not None:
            accuracy = mean_accuracy(generation.verifications[generation.best_update])
            if best is None or accuracy > most:
                best, most = generation, accuracy
    return best


def _written(state: TrainingState, arrays: Arrays) -> Arrays:
    """Return the parameters and running statistics of a state (``arg:``, ``aux:``) as its settings want them written."""
    averaged = state.facts["settings"].get("checkpoint_weights") == "averaged"
    found = {key: value for key, value in arrays.items() if key.startswith(("arg:", "aux:"))}
    averages = {key[4:]: value for key, value in arrays.items() if averaged and key.startswith("ema:")}
    return {key: averages.get(key[4:], value) for key, value in found.items()}


def _parameters(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Return the parameters and the running statistics of a state."""
    args, auxs = (
        {key[4:]: value for key, value in arrays.items() if key.startswith(kind)} for kind in ("arg:", "aux:")
    )
    return args, auxs


def present_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts of the data, such as those in ``data.json``, under their present names."""
    return {_OLD_FACTS.get(name, name): value for name, value in facts.items()}
