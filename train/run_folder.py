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
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vargfacenet.errors import SettingError
from vargfacenet.formats.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.formats.files import alone_in
from vargfacenet.train.config import Config
from vargfacenet.train.generation_folder import Generation, GenerationFolder, best_generation
from vargfacenet.train.training_state import FOLDER


class Resume(NamedTuple):
    """Treatment of a folder in which a run was started.

    Attributes
    ----------
    must
        A folder without a run is an error; otherwise a run is started in it.
    force
        Other settings or data than the run's are logged; otherwise they are an error.
    """

    must: bool = False
    force: bool = False


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
        """Lock the folder, which is made where it is missing, and check it; arguments and errors as in `check`.

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

    def complete(self, config: Config) -> None:
        """Restore checkpoints of a finished run that a stop left out; a run that has them is only read."""
        if not self.generations[-1].is_written(config.build_symbol()):
            with alone_in(self.path):
                self.restore(config)

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
            f"{self.path} holds no run to resume (nothing in {FOLDER}); give --resume without =must to start one"
        )
