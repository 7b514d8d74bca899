"""The folder of a run, and its only owner.

A `RunFolder` does four things, in this order, and nothing else in the package does them:

1. *Lock.* `RunFolder.open` keeps other processes of this machine out until the run ends. Nothing is read before that.
2. *Validate.* `RunFolder.check` compares what the folder holds with what is asked for. It reads and never writes.
3. *Load once.* A `GenerationFolder` reads the newest sound state once, digests included, and keeps everything but the
   arrays in `GenerationFolder.state`. Arrays can be as large as the memory allows, so they are read when a trainer needs
   them and not kept.
4. *Save.* `GenerationFolder.save` writes a state and the checkpoints that are made of it. `GenerationFolder.restore`
   does the same with a state that exists, whatever a stop or damage left of the checkpoints.

A run of one generation has everything in its own folder. A run of several has one `GenerationFolder` for each, in
``generation-1``, ``generation-2`` and so on, and its own checkpoints ``latest`` and ``best`` when it is finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import mxnet as mx

from vargfacenet.errors import CheckpointError, DataError, SettingError
from vargfacenet.formats.checkpoint import fitting_parameters, load_checkpoint, save_checkpoint
from vargfacenet.formats.files import alone_in, remove_leftovers, write_text
from vargfacenet.train.config import Config
from vargfacenet.train.engine import Arrays
from vargfacenet.train.run_log import cut_log
from vargfacenet.train.scores import Scores, best_update, mean_accuracy, read_scores, write_scores
from vargfacenet.train.training_state import FOLDER, TrainingState, TrainingStates

CONFIG, DATA = "config.json", "data.json"
_MAY_CHANGE = {"verify_every", "save_every", "log_every", "generations", "keep", "max_bad_share"}
# Names in folders that earlier versions wrote: old to new.
_OLD_FACTS = {"pictures": "images"}
_OLD_SETTINGS: dict[str, str] = {}

log = logging.getLogger(__name__)


class Resume(NamedTuple):
    """How to treat a folder that a run was started in.

    Attributes
    ----------
    must
        A folder without a run is an error; otherwise a run is started in it.
    force
        Other settings or data than the run's are logged; otherwise they are an error.
    """

    must: bool = False
    force: bool = False


class Generation(NamedTuple):
    """What a generation left.

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
        """Raise SettingError, naming what differs, where the settings of the state are not `config`."""
        given = json.loads(config.to_json())
        # A setting that did not exist yet had the value that is now its default.
        defaults = json.loads(json.dumps({field.name: field.default for field in dataclasses.fields(config)}))
        saved = {**defaults, **_renamed(self.state.facts["settings"], _OLD_SETTINGS)}
        compared = {name: value for name, value in given.items() if name not in _MAY_CHANGE}
        self._compare("with other settings", saved, compared, force)

    def check_data(self, facts: Mapping[str, Any], *, force: bool = False) -> None:
        """Raise SettingError, naming what differs, where the state is of other data: `facts` are JSON values."""
        self._compare("on other data", _renamed(self.state.facts["data"], _OLD_FACTS), facts, force)

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
        self._save_checkpoint("latest", embedding, arrays)
        if best == update:
            self._save_checkpoint("best", embedding, arrays)

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
        self._save_checkpoint("latest", embedding, arrays)
        scores = self.state.scores
        if scores:
            write_scores(self.path, scores)
        best = best_update(scores)
        if best == self.state.update:
            self._save_checkpoint("best", embedding, arrays)
        elif best is not None:
            try:
                state = self._states.read(best)
            except (CheckpointError, DataError) as error:
                log.warning("%s: the checkpoint 'best' in %s is left as it is", error, self.path)
            else:
                self._save_checkpoint("best", embedding, state.load_arrays())
        return arrays

    def result(self) -> Generation:
        """Return what the generation left."""
        scores = read_scores(self.path)
        return Generation(self.path, scores, best_update(scores))

    def _save_checkpoint(self, name: str, embedding: mx.sym.Symbol, arrays: Arrays) -> None:
        save_checkpoint(self.path / name, 0, embedding, *_parameters(arrays))

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


class RunFolder:
    """The folder of a run.

    Parameters
    ----------
    path
        The folder, which need not exist.
    generations
        Generations of the run.
    """

    def __init__(self, path: str | os.PathLike, generations: int = 1) -> None:
        self.path = pathlib.Path(path)
        paths = [self.path / f"generation-{number}" for number in range(1, generations + 1)]
        self.generations = [GenerationFolder(one) for one in (paths if generations > 1 else [self.path])]

    @property
    def started(self) -> bool:
        """True where a run of any number of generations was started and got as far as its first save."""
        folders = [self.path, *self.path.glob("generation-*")]
        return any(GenerationFolder(folder).started for folder in folders)

    @contextlib.contextmanager
    def open(
        self, config: Config, *, resume: Resume | None = None, facts: Mapping[str, Any] | None = None
    ) -> Iterator[RunFolder]:
        """Lock the folder, which is made where it is missing, and check it; arguments and errors as of `check`.

        Raises
        ------
        DataError
            Where another process has the folder locked, or it cannot be written.
        SettingError
            As of `check`, and where the run is finished. Checkpoints of a finished run that a stop left out are restored
            before that.
        """
        if resume is not None and resume.must and not self.started:
            raise self._no_run()  # before the folder is made
        with alone_in(self.path):
            self.check(config, resume=resume, facts=facts)
            if resume is not None and self.is_finished(config):
                self.restore(config)
                self.check_unfinished(config)
            yield self

    def check(self, config: Config, *, resume: Resume | None = None, facts: Mapping[str, Any] | None = None) -> None:
        """Raise SettingError where a run with these settings and data cannot start or continue here. Writes nothing.

        Parameters
        ----------
        config
            The settings.
        resume
            How to continue a run; None where the folder must not hold one.
        facts
            What is known of the data, see `vargfacenet.train.training_data.TrainingData.facts`; without it, the data of
            the run is not compared.
        """
        if resume is None:
            if self.started:
                raise SettingError(
                    f"{self.path} already holds a run; give --resume to continue it, or another --out to start one"
                )
            return
        started = [folder for folder in self.generations if folder.started]
        if not started:
            self._check_absent(resume)
            return
        if started[0] is not self.generations[0]:
            raise self._no_run()
        for folder in started:
            folder.check_settings(config, force=resume.force)
        if facts is not None and not self.is_finished(config):
            for folder in started:
                folder.check_data(facts, force=resume.force)

    def is_finished(self, config: Config) -> bool:
        """Return True where the last generation has made all its updates."""
        last = self.generations[-1]
        return last.started and last.state.update >= config.max_updates

    def check_unfinished(self, config: Config) -> None:
        """Raise SettingError where the run is finished."""
        if self.is_finished(config):
            many = f"{len(self.generations)} generations of " if len(self.generations) > 1 else ""
            raise SettingError(
                f"{self.path} is finished ({many}{config.max_updates} updates); give another --out to train again"
            )

    def resume_update(self, number: int, config: Config) -> int | None:
        """Return the update at which to continue a generation (1 is the first); None where it was not started.

        A generation that a later one has followed is finished, whatever its schedule would be now.
        """
        folder = self.generations[number - 1]
        if not folder.started:
            return None
        followed = any(later.started for later in self.generations[number:])
        return config.max_updates if followed else folder.state.update

    def restore(self, config: Config) -> None:
        """Restore the checkpoints of a finished run: those of its last generation and its own."""
        self.generations[-1].restore(config.build_symbol())
        self.save_checkpoints([folder.result() for folder in self.generations])

    def save_checkpoints(self, generations: list[Generation]) -> None:
        """Copy the last generation's student and the best of all into the folder of a run of several generations."""
        if len(generations) == 1:
            return
        save_checkpoint(self.path / "latest", 0, *load_checkpoint(generations[-1].out / "latest", 0))
        best = best_generation(generations)
        if best:
            save_checkpoint(self.path / "best", 0, *load_checkpoint(best.out / "best", 0))

    def _check_absent(self, resume: Resume) -> None:
        """Raise SettingError where a folder without a run of this many generations must hold one, or holds another."""
        if len(self.generations) > 1 and GenerationFolder(self.path).started:
            raise SettingError(
                f"{self.path} holds a run of one generation; several generations need a run of their own, in another --out"
            )
        if len(self.generations) == 1 and self.started:
            raise SettingError(
                f"{self.path} holds a run of several generations; give the same generations to resume it, or another --out"
            )
        if resume.must:
            raise self._no_run()

    def _no_run(self) -> SettingError:
        return SettingError(
            f"{self.path} holds no run to resume (nothing in {FOLDER}); leave --resume=must out to start one"
        )


def best_generation(generations: list[Generation]) -> Generation | None:
    """Return the generation with the best mean accuracy, the first of equals; None where none was verified."""
    best, most = None, 0.0
    for generation in generations:
        if generation.best_update is not None:
            accuracy = mean_accuracy(generation.verifications[generation.best_update])
            if best is None or accuracy > most:
                best, most = generation, accuracy
    return best


def _parameters(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Return the parameters and the running statistics of a state."""
    args, auxs = (
        {key[4:]: value for key, value in arrays.items() if key.startswith(kind)} for kind in ("arg:", "aux:")
    )
    return args, auxs


def _renamed(facts: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in facts.items()}
