"""A teacher's embeddings of training sets, computed once and kept on disk.

A folder belongs to one teacher (``teacher.json``). For each record file it holds ``KEY.npy``, float16
(pictures, 2, embedding_size): the unit embeddings of each picture and of its mirror, in the order of the set's keys,
and ``KEY.json`` with the file it is of. KEY is the fingerprint of the record file and its index
(`vargfacenet.data.RecordSet.fingerprint`), so that what was computed of other bytes is not taken.
"""

import functools
import json
import logging
import pathlib

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import DataError
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.files import read_json, write_text
from vargfacenet.rows import open_rows, write_rows
from vargfacenet.train.config import Config
from vargfacenet.train.teacher import unit_float16

TEACHER, FLOAT16 = "teacher.json", "<f2"

log = logging.getLogger(__name__)


def default_folder(teacher):
    """Where a teacher's embeddings are kept unless told otherwise."""
    return pathlib.Path("datasets", "teachers", teacher.fingerprint[:12])


def write_embeddings(teacher, records, folder, *, device=None, batch_size=32, progress=None):
    """Computes a teacher's embeddings of a set and adds them to a folder, unless it has them.

    What a stop leaves unfinished (``KEY.part``) the next call goes on with.

    Parameters
    ----------
    teacher : Teacher
        Who embeds.
    records : RecordSet
        The set.
    folder : path
        Made where it is missing.
    device : mx.Context, optional
        The CPU by default.
    batch_size : int
        Pictures at a time. The last digits of an embedding may depend on it.
    progress : callable, optional
        Called with the number of pictures done since the last call.

    Returns
    -------
    path
        The array file. It is whole or absent.

    Raises
    ------
    DataError
        Where the folder belongs to another teacher, an array in it is damaged, pictures are of another size or more of
        them bad than training passes over by default, an embedding is not finite, another process writes the same, or the
        disk is full.
    """
    folder = pathlib.Path(folder)
    records.check_size(*IMAGE_SHAPE[1:])
    if (folder / TEACHER).exists():
        _check_teacher(folder, teacher)
    else:
        about = {"fingerprint": teacher.fingerprint, "checkpoint": str(teacher), "size": teacher.embedding_size}
        write_text(folder / TEACHER, json.dumps(about, indent=1) + "\n")
    key = records.fingerprint()
    write_text(folder / f"{key}.json", json.dumps({"records": str(records.path.resolve())}) + "\n")
    path = folder / f"{key}.npy"
    if path.exists():
        open_rows(path, _shape(teacher, records), FLOAT16, "run the same again")
    else:
        make = functools.partial(_directions, teacher, records, device=device, batch_size=batch_size)
        write_rows(path, _shape(teacher, records), FLOAT16, make, progress=progress)
    return path


def open_embeddings(teacher, records, folder):
    """The stored embeddings of a set, a row a picture: `StoredRows`, float16 (pictures, 2, embedding_size).

    Raises
    ------
    DataError
        Where the folder is missing, of another teacher, or has none for the record file as it is now; the error says
        which, and the command that computes them.
    """
    folder = pathlib.Path(folder)
    remedy = f"run: vargfacenet teach {teacher.prefix} {records.path} --epoch {teacher.epoch} --out {folder}"
    if not (folder / TEACHER).is_file():
        raise DataError(f"{folder} holds no embeddings of a teacher; {remedy}")
    _check_teacher(folder, teacher)
    path = folder / f"{records.fingerprint()}.npy"
    if path.is_file():
        return open_rows(path, _shape(teacher, records), FLOAT16, remedy)
    if path.with_suffix(".part").is_file():
        raise DataError(f"{folder} holds embeddings of a part of {records.path} only; to go on, {remedy}")
    known = [_records_of(about) for about in sorted(folder.glob("*.json")) if about.with_suffix(".npy").exists()]
    if str(records.path.resolve()) in known:
        raise DataError(f"{folder} is stale: {records.path} has changed since its embeddings were computed; {remedy}")
    of = f"of {', '.join(known)}" if known else "of no record file"
    raise DataError(f"{folder} holds embeddings {of}, not of {records.path}; {remedy}")


def _directions(teacher, records, done, device, batch_size):
    """Unit embeddings of pictures and mirrors from a place in a set on, a batch at a time."""
    embedder = make_embedder(*teacher.checkpoint, device=device, batch_size=batch_size)
    for both in embedder.embed_batches(len(records) - done, _reader(records, done)):
        plain, mirrored = (unit_float16(mx.nd.array(embeddings)).asnumpy() for embeddings in both)
        if not (np.isfinite(plain).all() and np.isfinite(mirrored).all()):
            raise DataError(f"the teacher {teacher} gives embeddings that are not finite; it cannot teach")
        yield np.stack([plain, mirrored], axis=1)


def _reader(records, first):
    """Pictures by place; in that of a bad one, up to the share that training passes over by default, an empty one."""
    allowed, bad = int(Config.max_bad_share * len(records)), set()

    def read(place):
        key = int(records.keys[first + place])
        try:
            return records.read_face(key)[0]
        except DataError as error:
            bad.add(key)
            if len(bad) > allowed:
                raise
            log.warning("%s; training passes it over, what is kept for it is of an empty picture", error)
            return np.zeros((records.height, records.width, 3), np.uint8)

    return read


def _shape(teacher, records):
    return len(records), 2, teacher.embedding_size


def _records_of(about):
    """The record file that a KEY.json names."""
    return _fields(about, "records")[0]


def _check_teacher(folder, teacher):
    made_by, found = _fields(folder / TEACHER, "checkpoint", "fingerprint")
    if found != teacher.fingerprint:
        raise DataError(
            f"{folder} is stale: its embeddings are of {made_by} with fingerprint {found[:12]}, the teacher {teacher} has "
            f"{teacher.fingerprint[:12]}; delete the folder or give another one, and run vargfacenet teach"
        )


def _fields(path, *names):
    try:
        about = read_json(path)
        return [str(about[name]) for name in names]
    except (DataError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; delete {path.parent} and compute it again") from error
