"""The teacher of a distillation: a checkpoint, and the two ways in which it gives a batch its embeddings.

Embeddings are l2-normalized and rounded to float16 in both ways, so that a student learns the same.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import JoinedSets
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval import ImageEmbedder, verify_pairs
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.eval.pairs import Pairs
from vargfacenet.formats.arrays import StoredRows
from vargfacenet.formats.checkpoint import Checkpoint, checkpoint_files, load_checkpoint
from vargfacenet.formats.files import fingerprint, read_json, write_text
from vargfacenet.operators import inference_form
from vargfacenet.progress import progress
from vargfacenet.train.scores import SetScores

SCORES = "teacher-verification.json"

log = logging.getLogger(__name__)


class Teacher:
    """A checkpoint of this project or of the lineage, whatever its network; it is never trained.

    `vargfacenet.train.embedder_teacher.EmbedderTeacher` is one of another kind, such as an ONNX file.

    Parameters
    ----------
    prefix, epoch
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``.

    Attributes
    ----------
    checkpoint
        Graph, parameters and running statistics.
    embedding_size
        Numbers in an embedding.
    fingerprint
        Fingerprint of its two files.
    argument
        The teacher as the option ``--teacher`` names it.
    stored
        Folder with its embeddings of training sets, see `vargfacenet.train.cache`; None where it embeds each batch.
    classifier
        Where its classifier is, see `vargfacenet.train.teacher_classifier`; None for the folder of the checkpoint.

    Raises
    ------
    CheckpointError
        As `vargfacenet.formats.checkpoint.load_checkpoint` does.
    """

    def __init__(self, prefix: str | os.PathLike, epoch: int = 0) -> None:
        self.prefix, self.epoch = str(prefix), epoch
        self.argument = f"{prefix},{epoch}"
        self.checkpoint = load_checkpoint(prefix, epoch)
        _, [(_, self.embedding_size)], _ = self.checkpoint.symbol.infer_shape(data=(1, *IMAGE_SHAPE))
        self.fingerprint = fingerprint(checkpoint_files(prefix, epoch))
        self.stored: pathlib.Path | None = None
        self.classifier: pathlib.Path | None = None

    def __str__(self) -> str:
        return f"{self.prefix}-{self.epoch:04d}"

    def embedder(self, *, device: mx.Context | None = None, batch_size: int = 32) -> ImageEmbedder:
        """Return the network that embeds images, on the CPU by default."""
        return make_embedder(*self.checkpoint, device=device, batch_size=batch_size)

    def stored_in(self, folder: str | os.PathLike) -> Teacher:
        """Return the same teacher with its stored embeddings in a folder, which is read when a run begins."""
        teacher = copy.copy(self)
        teacher.stored = pathlib.Path(folder)
        return teacher

    def with_classifier_in(self, path: str | os.PathLike) -> Teacher:
        """Return the same teacher with its classifier in a run folder or a file, which is read when a run begins."""
        teacher = copy.copy(self)
        teacher.classifier = pathlib.Path(path)
        return teacher


class TeacherEmbeddings(Protocol):
    """The interface of whatever gives a batch the teacher's embeddings."""

    def embed(self, batch: mx.io.DataBatch) -> mx.nd.NDArray:
        """Return the teacher's embeddings of a batch of `FaceIterator`: (N, embedding_size)."""


class OnlineTeacher:
    """Embeds each batch with the teacher's network, on the devices of the student.

    Parameters
    ----------
    teacher
        The teacher, or its checkpoint.
    batch_size
        Images in a batch, all devices together.
    devices
        Each takes an equal slice.
    mirror
        Add the embedding of the image's mirror, as verification does.

    Raises
    ------
    CheckpointError
        Where the graph does not output one embedding for each face, or a parameter is missing or misshapen.
    """

    def __init__(
        self, teacher: Teacher | Checkpoint, *, batch_size: int, devices: Sequence[mx.Context], mirror: bool = False
    ) -> None:
        symbol, args, auxs = teacher.checkpoint if isinstance(teacher, Teacher) else teacher
        self._mirror = mirror
        graph, args, auxs = inference_form(symbol, args, auxs, device=devices[0])
        self._module = mx.mod.Module(graph, label_names=None, context=list(devices))
        self._module.bind([("data", (batch_size, *IMAGE_SHAPE))], for_training=False)
        self._module.set_params(args, auxs)

    def embed(self, batch: mx.io.DataBatch) -> mx.nd.NDArray:
        """Return the teacher's embeddings of a batch, as in `TeacherEmbeddings`; not waited for."""
        images = batch.data[0]
        found = self._embed(images)
        return found + self._embed(mx.nd.flip(images, axis=3)) if self._mirror else found

    def _embed(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        # Inference mode: batch normalisation uses its running statistics, dropout does nothing.
        self._module.forward(mx.io.DataBatch([images]), is_train=False)
        return normalize_to_float16(self._module.get_outputs()[0]).astype("float32")


class CachedTeacher:
    """Looks up the embeddings that `vargfacenet.train.cache.write_embeddings` stored, which costs almost nothing.

    They are of the plain image, or of its mirror where the batch has that, without other augmentation.

    Parameters
    ----------
    arrays
        For each of the joined sets, the embeddings of each image and its mirror: float16 (images, 2, embedding_size).
    records
        The sets.
    mirror
        Add the embedding of the image's mirror.
    """

    def __init__(self, arrays: Sequence[np.ndarray | StoredRows], records: JoinedSets, *, mirror: bool = False) -> None:
        self._arrays, self._records, self._mirror = arrays, records, mirror

    def embed(self, batch: mx.io.DataBatch) -> mx.nd.NDArray:
        """Return the teacher's embeddings of a batch, as in `TeacherEmbeddings`."""
        places, rows = self._records.locate(batch.index)
        found = [self._look_up(*sample) for sample in zip(places, rows, batch.mirrored)]
        return mx.nd.array(found, dtype="float32")

    def _look_up(self, place: int, row: int, mirrored: bool) -> np.ndarray:
        both = self._arrays[place][row].astype("float32")
        return both[0] + both[1] if self._mirror else both[int(mirrored)]


def normalize_to_float16(embeddings: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return embeddings (N, embedding_size) l2-normalized, as float16."""
    return mx.nd.L2Normalization(embeddings, mode="instance").astype("float16")


def check_embedding_size(embedding_size: int, teacher: Teacher) -> None:
    """Raise SettingError where a student's embedding does not have the size of its teacher's."""
    if embedding_size != teacher.embedding_size:
        raise SettingError(
            f"the teacher {teacher} gives embeddings of {teacher.embedding_size} numbers, the student of {embedding_size}: "
            f"give --set embedding_size={teacher.embedding_size}"
        )


def teacher_scores(
    teacher: Teacher,
    pairs: Mapping[str, Pairs],
    fingerprints: Mapping[str, str],
    folder: str | os.PathLike,
    *,
    device: mx.Context | None = None,
) -> SetScores:
    """Return a teacher's scores on verification sets, from the file in a folder, or measured and added to that file.

    Parameters
    ----------
    teacher
        The teacher.
    pairs
        The sets by name.
    fingerprints
        Their fingerprints by name, under which scores are stored.
    folder
        Where ``teacher-verification.json`` is.
    device
        Where to embed; the CPU by default.

    Raises
    ------
    DataError
        Where the file is damaged.
    """
    path = pathlib.Path(folder) / SCORES
    known: dict[str, dict] = {}
    if path.is_file():
        try:
            saved = read_json(path)
            known = saved["scores"] if saved["fingerprint"] == teacher.fingerprint else {}
            scores = {name: known[one] for name, one in fingerprints.items() if one in known}
        except (DataError, AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged; delete it, and the teacher is scored again") from error
    else:
        scores = {}
    missing = [name for name in pairs if name not in scores]
    if missing:
        embedder = teacher.embedder(device=device)
        for name in missing:
            with progress(total=len(pairs[name].images), unit="image", desc=f"teacher on {name}", leave=False) as bar:
                score = verify_pairs(embedder, pairs[name], progress=bar.update)
            log.info("teacher  %s: accuracy %.5f +- %.5f", name, score.accuracy, score.std)
            scores[name] = known[fingerprints[name]] = score.as_dict()
        about = {"checkpoint": str(teacher), "fingerprint": teacher.fingerprint, "scores": known}
        write_text(path, json.dumps(about, indent=1) + "\n")
    return scores
