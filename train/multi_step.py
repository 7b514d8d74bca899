"""Multi-step distillation: in each epoch the teacher is its own checkpoint of that epoch.

[Boutros et al., PocketNet, IEEE Access 2022, arXiv 2108.10710, section III-C]
"""

from __future__ import annotations

import logging
import pathlib

import mxnet as mx

from vargfacenet.checkpoint import epochs_of, save_checkpoint
from vargfacenet.errors import SettingError
from vargfacenet.train.teacher import OnlineTeacher, Teacher, check_embedding_size

EPOCHS = "epochs"  # prefix of a run's checkpoints by epoch

log = logging.getLogger(__name__)


class MultiStepTeacher:
    """Embeds each batch with the teacher's checkpoint of the batch's epoch.

    Parameters
    ----------
    prefix
        As in ``PREFIX-0001.params``, the checkpoint after the first epoch.
    epochs
        How many epochs the student trains; there must be a checkpoint of each.
    embedding_size
        The student's.
    batch_size, devices, mirror
        As of `OnlineTeacher`.

    Attributes
    ----------
    fingerprints : list of str
        Of the checkpoints, in order.

    Raises
    ------
    SettingError
        Where a checkpoint is missing, or its embeddings are of another size.
    """

    def __init__(
        self,
        prefix: str,
        *,
        epochs: int,
        embedding_size: int,
        batch_size: int,
        devices: list[mx.Context],
        mirror: bool = False,
    ):
        self._prefix, self._options = prefix, {"batch_size": batch_size, "devices": devices, "mirror": mirror}
        there = epochs_of(prefix)
        missing = sorted(set(range(1, epochs + 1)) - set(there))
        if missing:
            known = f"there are epochs {', '.join(map(str, there))}" if there else "there is none"
            raise SettingError(
                f"teacher_epochs=true needs a checkpoint of the teacher for each of {epochs} epochs, {prefix}-0001.params and "
                f"so on; {prefix}-{missing[0]:04d}.params is missing ({known}). Train the teacher with --set "
                "save_epochs=true, or the student for fewer updates"
            )
        self.fingerprints = []
        for epoch in range(1, epochs + 1):
            teacher = Teacher(prefix, epoch)
            check_embedding_size(embedding_size, teacher)
            self.fingerprints.append(teacher.fingerprint)
        self._epoch = self._teacher = None

    def directions(self, batch: mx.io.DataBatch) -> mx.nd.NDArray:
        """Return the embeddings of a batch, whose ``epoch`` counts from 0: (N, embedding_size), not waited for."""
        if batch.epoch != self._epoch:
            teacher = Teacher(self._prefix, batch.epoch + 1)
            log.info("epoch %d learns from %s", batch.epoch + 1, teacher)
            self._epoch, self._teacher = batch.epoch, OnlineTeacher(teacher, **self._options)
        return self._teacher.directions(batch)


class EpochCheckpoints:
    """Leaves a checkpoint ``epochs-0001``, ``epochs-0002`` and so on after each epoch: teachers of multi-step distillation.

    All workers hold one; those with ``writes=False`` write nothing.

    Parameters
    ----------
    embedding, trainer
        The plain embedding graph, and the Trainer.
    out
        Folder of the run.
    epoch_of
        Gives the whole passes over the data that lie before an update.
    writes
        Whether this worker writes.
    """

    def __init__(self, embedding: mx.sym.Symbol, trainer, out, *, epoch_of, writes: bool = True):
        self._embedding, self._trainer, self._prefix = embedding, trainer, pathlib.Path(out) / EPOCHS
        self._epoch_of, self._writes = epoch_of, writes

    def needs_parameters(self, update: int) -> bool:
        return self._epoch_of(update) > self._epoch_of(update - 1)

    def after_update(self, update: int, means: dict, seconds: float) -> None:
        if self._writes and self.needs_parameters(update):
            # A batch larger than the set ends several epochs at once.
            for epoch in range(self._epoch_of(update - 1) + 1, self._epoch_of(update) + 1):
                save_checkpoint(self._prefix, epoch, self._embedding, *self._trainer.parameters())

    def close(self) -> None:
        pass
