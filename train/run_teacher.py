"""The teacher of a run: whether it fits the settings, and where its embeddings come from."""

from __future__ import annotations

import dataclasses
import logging
import math

from vargfacenet.errors import SettingError
from vargfacenet.train.build import make_online_teacher
from vargfacenet.train.cache import open_embeddings
from vargfacenet.train.config import Config
from vargfacenet.train.graph import embedding_size_of
from vargfacenet.train.multi_step import MultiStepTeacher
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.teacher import CachedTeacher, Teacher, TeacherEmbeddings, check_embedding_size
from vargfacenet.train.training_data import TrainingData

log = logging.getLogger(__name__)


def fit_to_teacher(config: Config, teacher: Teacher | None) -> Config:
    """Return the settings with the teacher's embedding size, where they leave it open.

    Raises
    ------
    SettingError
        Where distillation lacks a teacher, a teacher has nothing to teach, or the embedding sizes differ.
    """
    if config.distils and teacher is None:
        what = f"distillation={config.distillation}" if config.distillation != "none" else f"loss={config.loss}"
        raise SettingError(
            f"{what} needs a teacher: give --teacher PREFIX, as in PREFIX-symbol.json ('make train-teacher' trains one)"
        )
    if teacher is None:
        return config
    if not config.distils:
        raise SettingError(
            f"the teacher {teacher} has nothing to teach: these settings do not distil; give --set distillation=angular"
        )
    if config.embedding_size is None:
        config = dataclasses.replace(config, embedding_size=teacher.embedding_size)
        log.info("embedding_size=%d, the teacher's", teacher.embedding_size)
    check_embedding_size(embedding_size_of(config.build_symbol()), teacher)
    return config


def epochs_of_run(config: Config, data: TrainingData) -> int:
    """Return the epochs of all generations, the last one begun."""
    return math.ceil(config.max_updates * config.generations * config.batch_size / len(data.records))


def teacher_embeddings(config: Config, teacher: Teacher, data: TrainingData, runtime: Runtime) -> TeacherEmbeddings:
    """Return the source of the teacher's embeddings; SettingError where mixed images need one that is not stored."""
    if config.teacher_epochs:
        return MultiStepTeacher(teacher.prefix, lambda each: make_online_teacher(each, config, runtime))
    if teacher.stored is None:
        return make_online_teacher(teacher, config, runtime)
    if config.mix:
        raise SettingError(
            f"mix={config.mix:g} needs a teacher that embeds the mixed images: leave out --cached, or mix"
        )
    arrays = [open_embeddings(teacher, one, teacher.stored) for one in data.records.sets]
    return CachedTeacher(arrays, data.records, mirror=config.teacher_mirror)
