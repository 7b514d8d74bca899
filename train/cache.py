"""A teacher's embeddings of training sets, computed once and kept on disk.

A folder belongs to one teacher (``teacher.json``). For each record file it holds ``KEY.npy``, float16
(pictures, 2, embedding_size): the unit embeddings of each picture and of its mirror, in the order of the set's keys,
and ``KEY.json`` with the file it is of. KEY is the record file's fingerprint, so that what was computed of other
bytes is never taken.
"""

import json
import pathlib

import mxnet as mx
import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval import Embedder
from vargfacenet.files import atomic_path, fingerprint, read_bytes, write_text
from vargfacenet.train.teacher import unit_float16

TEACHER = "teacher.json"


def default_folder(teacher):
    """Where a teacher's embeddings are kept unless told otherwise."""
    return pathlib.Path("datasets", "teachers", teacher.fingerprint[:12])


def write_embeddings(teacher, records, folder, *, device=None, batch_size=32, progress=None):
    """Computes a teacher's embeddings of a set and adds them to a folder, unless it has them.

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
        Pictures at a time.
    progress : callable, optional
        Called with the number of pictures done since the last call.

    Returns
    -------
    path
        The array file. It is whole or absent.

    Raises
    ------
    DataError
        Where the folder belongs to another teacher, a picture cannot be read, or the disk is full.
    """
    folder = pathlib.Path(folder)
    if (folder / TEACHER).exists():
        _check_teacher(folder, teacher)
    else:
        about = {"fingerprint": teacher.fingerprint, "checkpoint": str(teacher), "size": teacher.embedding_size}
        write_text(folder / TEACHER, json.dumps(about, indent=1) + "\n")
    key = records_fingerprint(records)
    path = folder / f"{key}.npy"
    if path.exists():
        return path
    embedder = Embedder(*teacher.checkpoint, device=device, batch_size=batch_size)
    header = {"descr": "<f2", "fortran_order": False, "shape": (len(records), 2, teacher.embedding_size)}
    batches = embedder.embed_batches(len(records), lambda place: records.read_face(int(records.keys[place]))[0])
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        # Not through a memory map, which on a full disk kills the process.
        np.lib.format.write_array_header_1_0(file, header)
        for both in batches:
            plain, mirrored = (unit_float16(mx.nd.array(embeddings)).asnumpy() for embeddings in both)
            file.write(np.stack([plain, mirrored], axis=1).tobytes())
            if progress:
                progress(len(plain))
    write_text(folder / f"{key}.json", json.dumps({"records": str(records.path.resolve())}) + "\n")
    return path


def open_embeddings(teacher, records, folder):
    """The stored embeddings of a set, memory mapped: float16 (pictures, 2, embedding_size).

    Raises
    ------
    DataError
        Where the folder is missing, of another teacher, or has none for the record file as it is now; the error says
        which, and the command that computes them.
    """
    folder = pathlib.Path(folder)
    remedy = f"run: vargfacenet teach {teacher.prefix} {records.path.parent} --epoch {teacher.epoch} --out {folder}"
    if not (folder / TEACHER).is_file():
        raise DataError(f"{folder} holds no embeddings of a teacher; {remedy}")
    _check_teacher(folder, teacher)
    path = folder / f"{records_fingerprint(records)}.npy"
    if not path.is_file():
        known = [
            json.loads(read_bytes(about))["records"] for about in sorted(folder.glob("*.json")) if about.name != TEACHER
        ]
        if str(records.path.resolve()) in known:
            raise DataError(
                f"{folder} is stale: {records.path} has changed since its embeddings were computed; {remedy}"
            )
        of = f"of {', '.join(known)}" if known else "of no record file"
        raise DataError(f"{folder} holds embeddings {of}, not of {records.path}; {remedy}")
    expected = (len(records), 2, teacher.embedding_size)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and {remedy}") from error
    if array.shape != expected or array.dtype != np.float16:
        raise DataError(
            f"{path} holds {array.dtype} {array.shape}, expected float16 {expected}; delete it and {remedy}"
        )
    return array


def records_fingerprint(records):
    """Fingerprint of a set's record file and index (str)."""
    return fingerprint([records.path, records.path.with_suffix(".idx")])


def _check_teacher(folder, teacher):
    try:
        about = json.loads(read_bytes(folder / TEACHER))
        made_by, found = about["checkpoint"], about["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / TEACHER} is damaged; delete {folder} and compute it again") from error
    if found != teacher.fingerprint:
        raise DataError(
            f"{folder} is stale: its embeddings are of {made_by} with fingerprint {found[:12]}, the teacher {teacher} has "
            f"{teacher.fingerprint[:12]}; delete the folder or give another one, and run vargfacenet teach"
        )
