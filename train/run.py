"""A training run: data, teacher, folder, and the generations that learn from them.

A run has one owner, `Run`. It is made of parts that each do one thing:

- `Config`: what is computed;
- `TrainingData`: training and verification sets;
- `TeacherEmbeddings`: what the student learns of its teacher;
- `RunFolder`: the only reader and writer of the run's folder: lock, validate, load once, save;
- `Runtime`: devices, the other workers, and the signals that stop the run.

`train` opens these parts in an order that lets every mistake be reported before anything is written, and calls
`Run.train`. That trains the generations one after the other: `vargfacenet.train.generation` builds a trainer
(`TrainerProtocol`), the iterator and the callbacks, and `vargfacenet.train.loop.fit` makes the updates. `Trainer.step`
returns a `StepResult`. The loop adds the means over all workers, and callbacks receive both as an `UpdateResult`.
Signals of workers are exchanged in the loop, together with the means, and never pass through a network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.engines import devices_for
from vargfacenet.errors import SettingError
from vargfacenet.train.build import check_engine
from vargfacenet.train.config import Config
from vargfacenet.train.generation import train_generation
from vargfacenet.train.generation_folder import CONFIG, Generation
from vargfacenet.train.initial_weights import read_initial_weights
from vargfacenet.train.multi_step import epoch_fingerprints
from vargfacenet.train.plan import Plan
from vargfacenet.train.plan_check import check_run, described, warn_of_epochs, workload
from vargfacenet.train.run_folder import Resume, RunFolder
from vargfacenet.train.run_teacher import epochs_of_run, fit_to_teacher, teacher_embeddings
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.scores import SetScores
from vargfacenet.train.teacher import Teacher, TeacherEmbeddings, teacher_scores
from vargfacenet.train.teacher_classifier import read_classifier
from vargfacenet.train.training_data import Path, TrainingData, open_data

log = logging.getLogger(__name__)


class Result(NamedTuple):
    """The results of a run.

    Attributes
    ----------
    out
        Its folder.
    updates, seconds
        Updates made and seconds taken by this call.
    generations
        Its generations.
    teacher
        The teacher's scores; None without teacher or verification sets.
    """

    out: pathlib.Path
    updates: int
    seconds: float
    generations: list[Generation]
    teacher: SetScores | None


def train(
    config: Config,
    *,
    data: Path | Sequence[Path],
    out: Path,
    bins: Sequence[Path] = (),
    teacher: Teacher | None = None,
    resume: Resume | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Train a network, and leave checkpoints, log, settings and training states in a folder.

    Parameters
    ----------
    config
        The settings.
    data
        Folders of training sets; the identities of several are put side by side.
    out
        Folder of the run: ``config.json``, ``log.jsonl``, ``verification.json``, checkpoints ``latest`` and ``best`` (by
        mean accuracy over `bins`), and ``states``, from which the run can be resumed. A run of several generations has
        all that in ``generation-1``, ``generation-2`` and so on, and its own ``latest`` and ``best`` when it is finished.
    bins
        Verification sets, scored before the first update, every `verify_every` updates and at the end.
    teacher
        The teacher, where the settings ask for distillation. `Teacher.stored_in` names a folder with its embeddings of
        the sets, see `vargfacenet.train.cache`; otherwise it embeds each batch.
    resume
        How to continue a run in the folder; without, the folder must not hold one.
    runtime
        What the run is computed on: by default one CPU device, one worker, no handling of signals. All workers call this
        with the same settings and data. Worker 0 alone reads and writes `out`, and scores on `bins`. Settings hold for
        all workers together: a run can be resumed by another number of them.

    Returns
    -------
    Result
        Without verifications in workers other than 0.

    Raises
    ------
    SettingError, DataError, TrainingError
        Before anything is written where possible.
    Stopped
        When a signal has stopped the run, which is saved.
    """
    runtime = runtime or Runtime()
    runtime = runtime._replace(devices=devices_for(config.engine, runtime.devices))
    cluster = runtime.cluster
    cluster.report("preparing")
    config.check()
    config = fit_to_teacher(config, teacher)
    check_engine(config, runtime)
    if config.init is not None and resume is None and cluster.is_first:
        read_initial_weights(config.init)  # so that a mistake is reported before anything is written
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_data(data, bins if cluster.is_first else ()))
        shared = opened.facts(teacher, verification=False)
        cluster.check_same({**config.to_dict(), **shared, "resume": resume is not None})
        plan = check_run(config, workload(config, opened, teacher), runtime)
        if cluster.is_first:
            warn_of_epochs(config, len(opened.records))
        facts, folder = opened.facts(teacher), RunFolder(out, config.generations)
        if teacher and config.teacher_epochs:
            if teacher.stored is not None:
                raise SettingError(
                    "teacher_epochs=true has a teacher for each epoch, --cached one for all: leave one of them out"
                )
            facts["teacher epochs"] = epoch_fingerprints(teacher, epochs_of_run(config, opened))
        if cluster.is_first:
            stack.enter_context(folder.open(config, resume=resume, facts=facts))
        if teacher:
            source = f"embeddings in {teacher.stored}" if teacher.stored else "online"
            facts["learned from"] = f"{teacher}, {source}"
        reads_teacher = teacher is not None and config.reads_teacher
        embeddings = teacher_embeddings(config, teacher, opened, runtime) if teacher and reads_teacher else None
        classifier = None
        begins = cluster.is_first and not folder.generations[0].started
        if teacher and config.has_frozen_classifier and begins:
            place = teacher.classifier or pathlib.Path(teacher.prefix).parent
            classifier = read_classifier(place, opened.records.num_identities, teacher.embedding_size)
        run = Run(config, opened, folder, runtime, embeddings, facts, classifier)
        run.describe(plan)
        begin, scores = time.time(), None
        if teacher and opened.pairs:
            kept = teacher.stored or folder.path
            scores = teacher_scores(teacher, opened.pairs, opened.fingerprints, kept, device=runtime.devices[0])
        generations, updates = run.train(resume=resume is not None)
        cluster.barrier()  # so that what worker 0 wrote is there for all
    return Result(folder.path, updates, time.time() - begin, generations, scores)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run whose parts are open and checked, see the module's description.

    Attributes
    ----------
    config
        The settings.
    data
        Training and verification sets; the latter only in worker 0.
    folder
        The run's folder, locked by worker 0.
    runtime
        What it is computed on.
    teacher
        Gives the teacher's embeddings of a batch; None where no loss reads them.
    facts
        What is written down of the data: JSON values.
    classifier
        The teacher's classifier, (identities, embedding_size), in worker 0 of a run that begins with it.
    """

    config: Config
    data: TrainingData
    folder: RunFolder
    runtime: Runtime
    teacher: TeacherEmbeddings | None
    facts: Mapping[str, Any]
    classifier: np.ndarray | None = None

    def describe(self, plan: Plan | None) -> None:
        """Log what is going to be trained on what, and what was planned."""
        config, records, workers = self.config, self.data.records, self.runtime.cluster.world_size
        updates = config.max_updates * config.generations
        log.info(
            "%s: %d images of %d identities, %d updates of %d (%.1f epochs) on %s%s, %s; settings in %s",
            records,
            len(records),
            records.num_identities,
            updates,
            config.batch_size,
            updates * config.batch_size / len(records),
            ", ".join(map(str, self.runtime.devices)),
            f" of each of {workers} workers" if workers > 1 else "",
            described(plan),
            self.folder.generations[0].path / CONFIG,
        )

    def train(self, *, resume: bool) -> tuple[list[Generation], int]:
        """Train all generations, or what is left of them; return them and the number of updates that were made.

        Parameters
        ----------
        resume
            Continue where the folder's states are. Worker 0 decides where that is, for all.
        """
        config, cluster, folders = self.config, self.runtime.cluster, self.folder.generations
        generations: list[Generation] = []
        updates = 0
        for number, folder in enumerate(folders, 1):
            saved = self.folder.resume_update(number, config) if resume and cluster.is_first else None
            saved = cluster.broadcast_object(saved)
            if saved is not None and saved >= config.max_updates:
                if cluster.is_first:
                    folder.restore(config.build_symbol())
                generations.append(folder.result())
                continue
            updates += config.max_updates - (saved or 0)
            if len(folders) > 1:
                log.info("generation %d of %d in %s", number, len(folders), folder.path)
            previous = folders[number - 2] if number > 1 else None
            generations.append(train_generation(self, number, previous=previous, resume=saved is not None))
        if cluster.is_first:
            self.folder.save_checkpoints(generations)
        return generations, updates
