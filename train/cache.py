"""A teacher's embeddings of training sets, computed once and stored on disk.

A folder belongs to one teacher (``teacher.json``). For each record file it holds ``KEY.npy``, float16
(images, 2, embedding_size): the l2-normalized embeddings of each image and of its mirror, in the order of the set's
keys, and ``KEY.json``, which names the record file. KEY is the fingerprint of the record file and its index
(`vargfacenet.data.RecordSet.fingerprint`), so that embeddings of other bytes are never used.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterator

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import RecordSet
from vargfacenet.errors import DataError
from vargfacenet.formats.arrays import StoredRows
from vargfacenet.formats.files import read_json, write_text
from vargfacenet.formats.rows import open_rows, write_rows
from vargfacenet.train.config import Config
from vargfacenet.train.teacher import Teacher, normalize_to_float16

TEACHER, FLOAT16 = "teacher.json", "<f2"

log = logging.getLogger(__name__)


def default_folder(teacher: Teacher) -> pathlib.Path:
    """Return the folder where a teacher's embeddings are stored by default."""
    return pathlib.Path("datasets", "teachers", teacher.fingerprint[:12])


def write_embeddings(
    teacher: Teacher,
    records: RecordSet,
    folder: str | os.PathLike,
    *,
    device: mx.Context | None = None,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
) -> pathlib.Path:
    """Compute a teacher's embeddings of a set and add them to a folder, unless it has them.

    The next call continues what a stop left unfinished (``KEY.part``).

    Parameters
    ----------
    teacher
        The teacher.
    records
        The set.
    folder
        Made where it is missing.
    device
        Where to embed; the CPU by default.
    batch_size
        Images at a time. The last digits of an embedding may depend on it.
    progress
        Called with the number of images done since the last call.

    Returns
    -------
    path
        The array file. It is whole or absent.

    Raises
    ------
    DataError
        Where the folder belongs to another teacher, images have another size, more of them
        are bad than training skips by default, an embedding is not finite, or the disk is full.
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
    if not _is_sound(path, _shape(teacher, records)):
        make = functools.partial(_embeddings, teacher, records, device=device, batch_size=batch_size)
        write_rows(path, _shape(teacher, records), FLOAT16, make, progress=progress)
    return path


def open_embeddings(teacher: Teacher, records: RecordSet, folder: str | os.PathLike) -> StoredRows:
    """Open the stored embeddings of a set, one row for each image: float16 (images, 2, embedding_size).

    Raises
    ------
    DataError
        Where the folder is missing, belongs to another teacher, or has no embeddings of the record file as it is now;
        the error says which, and gives the command that computes them.
    """
    folder = pathlib.Path(folder)
    remedy = f"run: vargfacenet teach {teacher.argument} {records.path} --out {folder}"
    if not (folder / TEACHER).is_file():
        raise DataError(f"{folder} holds no embeddings of a teacher; {remedy}")
    _check_teacher(folder, teacher)
    path = folder / f"{records.fingerprint()}.npy"
    if path.is_file():
        return open_rows(path, _shape(teacher, records), FLOAT16, remedy)
    if path.with_suffix(".part").is_file():
        raise DataError(f"{folder} holds embeddings of only a part of {records.path}; to continue, {remedy}")
    known = [_records_of(about) for about in sorted(folder.glob("*.json")) if about.with_suffix(".npy").exists()]
    if str(records.path.resolve()) in known:
        raise DataError(f"{folder} is stale: {records.path} has changed since its embeddings were computed; {remedy}")
    of = f"of {', '.join(known)}" if known else "of no record file"
    raise DataError(f"{folder} holds embeddings {of}, not of {records.path}; {remedy}")


def _is_sound(path: pathlib.Path, shape: tuple[int, int, int]) -> bool:
    """Return whether an array file is there and sound; a damaged one gets a remark, and is made again."""
    if not path.exists():
        return False
    try:
        open_rows(path, shape, FLOAT16, "run the same again")
    except DataError as error:
        log.warning("%s; the embeddings are computed again", str(error).partition("; delete it")[0])
        return False
    return True


def _embeddings(
    teacher: Teacher, records: RecordSet, done: int, device: mx.Context | None, batch_size: int
) -> Iterator[np.ndarray]:
    """Yield the embeddings of images and mirrors after the first `done` of a set, a batch at a time."""
    embedder = teacher.embedder(device=device, batch_size=batch_size)
    for both in embedder.embed_batches(len(records) - done, _reader(records, done)):
        plain, mirrored = (normalize_to_float16(mx.nd.array(embeddings)).asnumpy() for embeddings in both)
        if not (np.isfinite(plain).all() and np.isfinite(mirrored).all()):
            raise DataError(f"the teacher {teacher} gives embeddings that are not finite; it cannot teach")
        yield np.stack([plain, mirrored], axis=1)


def _reader(records: RecordSet, first: int) -> Callable[[int], np.ndarray]:
    """Return a reader of images by place, counted from `first`.

    It replaces a bad image by an empty one, up to the share of bad images that training skips by default.
    """
    allowed = int(Config.max_bad_share * len(records))
    bad: set[int] = set()

    def read(place: int) -> np.ndarray:
        key = int(records.keys[first + place])
        try:
            return records.read_face(key)[0]
        except DataError as error:
            bad.add(key)
            if len(bad) > allowed:
                raise
            log.warning("%s; training skips it, and the embedding of an empty image is stored in its place", error)
            return np.zeros((records.height, records.width, 3), np.uint8)

    return read


def _shape(teacher: Teacher, records: RecordSet) -> tuple[int, int, int]:
    return len(records), 2, teacher.embedding_size


def _records_of(about: pathlib.Path) -> str:
    """Return the record file that a KEY.json names."""
    return _fields(about, "records")[0]


def _check_teacher(folder: pathlib.Path, teacher: Teacher) -> None:
    made_by, found = _fields(folder / TEACHER, "checkpoint", "fingerprint")
    if found != teacher.fingerprint:
        raise DataError(
            f"{folder} is stale: its embeddings are of {made_by} with fingerprint {found[:12]}; the teacher {teacher} has "
            f"{teacher.fingerprint[:12]}; delete the folder or give another one, and run vargfacenet teach"
        )


def _fields(path: pathlib.Path, *names: str) -> list[str]:
    try:
        about = read_json(path)
        return [str(about[name]) for name in names]
    except (DataError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; delete {path.parent} and compute it again") from error
