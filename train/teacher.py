"""The teacher of a distillation: a checkpoint, and the two ways by which it gives a batch its embeddings.

However they come, embeddings are unit length and rounded to float16, so that a student learns the same either way.
"""

import json
import logging
import pathlib

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.checkpoint import checkpoint_files, load_checkpoint
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval import verify_pairs
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.files import fingerprint, read_json, write_text
from vargfacenet.operators import runnable

SCORES = "teacher-verification.json"

log = logging.getLogger(__name__)


class Teacher:
    """A checkpoint of this project or of the lineage, whatever its network; it is never trained.

    Parameters
    ----------
    prefix, epoch : str or path, int
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``.

    Attributes
    ----------
    checkpoint : Checkpoint
        Graph, parameters and running statistics.
    embedding_size : int
        Of its embeddings.
    fingerprint : str
        Of its two files.

    Raises
    ------
    CheckpointError
        As `vargfacenet.checkpoint.load_checkpoint` does.
    """

    def __init__(self, prefix, epoch=0):
        self.prefix, self.epoch = str(prefix), epoch
        self.checkpoint = load_checkpoint(prefix, epoch)
        _, [(_, self.embedding_size)], _ = self.checkpoint.symbol.infer_shape(data=(1, *IMAGE_SHAPE))
        self.fingerprint = fingerprint(checkpoint_files(prefix, epoch))

    def __str__(self):
        return f"{self.prefix}-{self.epoch:04d}"


class OnlineTeacher:
    """Embeds each batch with the teacher's network, on the devices of the student, each its own slice.

    Parameters
    ----------
    teacher : Teacher
        Who teaches.
    batch_size : int
        Pictures in a batch, all devices together.
    devices : list of mx.Context
        Each takes an equal slice.
    mirror : bool
        Whether the embedding of the picture's mirror is added, as verification does.
    """

    def __init__(self, teacher, *, batch_size, devices, mirror=False):
        symbol, args, auxs = teacher.checkpoint
        self._mirror = mirror
        self._module = mx.mod.Module(runnable(symbol, device=devices[0]), label_names=None, context=devices)
        self._module.bind([("data", (batch_size, *IMAGE_SHAPE))], for_training=False)
        self._module.set_params(args, auxs)

    def directions(self, batch):
        """The teacher's embeddings of a batch of `FaceIterator`: NDArray (N, embedding_size), not waited for."""
        pictures = batch.data[0]
        found = self._embed(pictures)
        return found + self._embed(mx.nd.flip(pictures, axis=3)) if self._mirror else found

    def _embed(self, pictures):
        # In inference mode: BN takes its running statistics, dropout does nothing.
        self._module.forward(mx.io.DataBatch([pictures]), is_train=False)
        return unit_float16(self._module.get_outputs()[0]).astype("float32")


class CachedTeacher:
    """Looks up the embeddings that `vargfacenet.train.cache.write_embeddings` stored; costs next to nothing.

    They are of the plain picture, or of its mirror where the batch has that, without other augmentation.

    Parameters
    ----------
    arrays : list of float16 arrays (pictures, 2, embedding_size)
        For each of the joined sets, of each picture and its mirror.
    records : JoinedSets
        The sets.
    mirror : bool
        Whether the embedding of the picture's mirror is added.
    """

    def __init__(self, arrays, records, *, mirror=False):
        self._arrays, self._records, self._mirror = arrays, records, mirror

    def directions(self, batch):
        """The teacher's embeddings of a batch of `FaceIterator`: NDArray (N, embedding_size)."""
        places, rows = self._records.locate(batch.index)
        found = [self._look_up(*sample) for sample in zip(places, rows, batch.mirrored)]
        return mx.nd.array(found, dtype="float32")

    def _look_up(self, place, row, mirrored):
        both = self._arrays[place][row].astype("float32")
        return both[0] + both[1] if self._mirror else both[int(mirrored)]


def unit_float16(embeddings):
    """Embeddings (NDArray, (N, embedding_size)) at length 1, as float16."""
    return mx.nd.L2Normalization(embeddings, mode="instance").astype("float16")


def check_embedding_size(embedding_size, teacher):
    """SettingError where a student's embedding is not of the size of its teacher's."""
    if embedding_size != teacher.embedding_size:
        raise SettingError(
            f"the teacher {teacher} gives embeddings of {teacher.embedding_size} numbers, the student of {embedding_size}: "
            f"give --set embedding_size={teacher.embedding_size}"
        )


def teacher_scores(teacher, pairs, prints, folder, *, device=None):
    """A teacher's scores on verification sets, from a folder that keeps them, or measured and kept there.

    Parameters
    ----------
    teacher : Teacher
        Whose scores.
    pairs : dict of str to Pairs
        The sets.
    prints : dict of str to str
        Their fingerprints, by which scores are found again.
    folder : path
        Where ``teacher-verification.json`` is.
    device : mx.Context, optional
        The CPU by default.

    Returns
    -------
    dict of str to dict
        Set name to the fields of a Verification.

    Raises
    ------
    DataError
        Where the file is damaged.
    """
    path, known = pathlib.Path(folder) / SCORES, {}
    if path.is_file():
        try:
            saved = read_json(path)
            known = saved["scores"] if saved["fingerprint"] == teacher.fingerprint else {}
            scores = {name: known[mark] for name, mark in prints.items() if mark in known}
        except (DataError, AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged; delete it, and the teacher is scored again") from error
    else:
        scores = {}
    missing = [name for name in pairs if name not in scores]
    if missing:
        embedder = make_embedder(*teacher.checkpoint, device=device)
        for name in missing:
            score = verify_pairs(embedder, pairs[name])
            log.info("teacher  %s: accuracy %.5f +- %.5f", name, score.accuracy, score.std)
            scores[name] = known[prints[name]] = score.as_dict()
        about = {"checkpoint": str(teacher), "fingerprint": teacher.fingerprint, "scores": known}
        write_text(path, json.dumps(about, indent=1) + "\n")
    return scores
