"""Multi-step distillation: in each epoch the teacher is its own checkpoint of that epoch.

[Boutros et al., PocketNet, IEEE Access 2022, arXiv 2108.10710, section III-C]
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.formats.checkpoint import epochs_of, save_checkpoint
from vargfacenet.train.callback import Callback, TrainingContext, UpdateResult, written_weights
from vargfacenet.train.embedder_teacher import EmbedderTeacher
from vargfacenet.train.teacher import Teacher, TeacherEmbeddings, check_embedding_size

EPOCHS = "epochs"  # prefix of a run's checkpoints by epoch

log = logging.getLogger(__name__)


def epoch_fingerprints(teacher: Teacher, epochs: int) -> list[str]:
    """Return the fingerprints of a teacher's checkpoints of the first epochs, 1 the first.

    SettingError where a checkpoint is missing, or its embeddings have another size than the teacher's.
    """
    if isinstance(teacher, EmbedderTeacher):
        raise SettingError(
            f"teacher_epochs=true needs a checkpoint of the teacher for each epoch, without other scaling of images: "
            f"{teacher} has none; leave out teacher_epochs"
        )
    prefix, there = teacher.prefix, epochs_of(teacher.prefix)
    missing = sorted(set(range(1, epochs + 1)) - set(there))
    if missing:
        known = f"there are epochs {', '.join(map(str, there))}" if there else "there is none"
        raise SettingError(
            f"teacher_epochs=true needs a checkpoint of the teacher for each of {epochs} epochs, {prefix}-0001.params and "
            f"so on; {prefix}-{missing[0]:04d}.params is missing ({known}). Train the teacher with --set save_epochs=true, "
            "or the student for fewer updates"
        )
    found = []
    for epoch in range(1, epochs + 1):
        checkpoint = Teacher(prefix, epoch)
        check_embedding_size(teacher.embedding_size, checkpoint)
        found.append(checkpoint.fingerprint)
    return found


class MultiStepTeacher:
    """Embeds each batch with the teacher's checkpoint of the batch's epoch, as in `TeacherEmbeddings`.

    Parameters
    ----------
    prefix
        As in ``PREFIX-0001.params``, the checkpoint after the first epoch; see `epoch_fingerprints`.
    make
        Returns what embeds batches by a checkpoint, such as an `OnlineTeacher`.
    """

    def __init__(self, prefix: str, make: Callable[[Teacher], TeacherEmbeddings]) -> None:
        self._prefix, self._make = prefix, make
        self._current: tuple[int, TeacherEmbeddings] | None = None

    def embed(self, batch: mx.io.DataBatch) -> Any:
        """Return the embeddings of a batch, whose ``epoch`` counts from 0: (N, embedding_size), not waited for."""
        if self._current is None or self._current[0] != batch.epoch:
            teacher = Teacher(self._prefix, batch.epoch + 1)
            log.info("epoch %d learns from %s", batch.epoch + 1, teacher)
            self._current = batch.epoch, self._make(teacher)
        return self._current[1].embed(batch)


class EpochCheckpoints(Callback):
    """Leaves a checkpoint ``epochs-0001``, ``epochs-0002`` and so on after each epoch: teachers of multi-step distillation.

    Parameters
    ----------
    context
        The generation, and the trainer whose parameters are saved.
    epoch_of
        Returns the complete passes over the data before an update.
    """

    def __init__(self, context: TrainingContext, epoch_of: Callable[[int], int]) -> None:
        self._context, self._epoch_of = context, epoch_of

    def needs_parameters(self, update: int) -> bool:
        return self._epoch_of(update) > self._epoch_of(update - 1)

    def after_update(self, result: UpdateResult) -> None:
        # A batch larger than the set ends several epochs at once.
        for epoch in range(self._epoch_of(result.update - 1) + 1, self._epoch_of(result.update) + 1):
            parameters = written_weights(self._context.config, self._context.trainer)
            save_checkpoint(self._context.out / EPOCHS, epoch, self._context.embedding, *parameters)
