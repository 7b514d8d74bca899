"""The teacher's classifier: found in the run that trained the teacher, or in a file."""

from __future__ import annotations

import os
import pathlib

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.formats.params import load_params
from vargfacenet.train.classifier.identities import PART
from vargfacenet.train.engine import Arrays
from vargfacenet.train.training_state import TrainingStates

_NAME = "fc7_weight"


def read_classifier(path: str | os.PathLike, num_identities: int, embedding_size: int) -> np.ndarray:
    """Return the classifier of a teacher, float32 (num_identities, embedding_size).

    Parameters
    ----------
    path
        The folder of the run that trained the teacher, whose newest state has it; or a ``.params`` file with an array
        ``fc7_weight`` in it, as InsightFace's trainer leaves them; or an ``.npy`` file.
    num_identities, embedding_size
        Of the training set, and of student and teacher.

    Raises
    ------
    SettingError
        Where there is none, or it is of other identities or another size.
    CheckpointError
        Where the file is damaged.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        weight = _of_run(path)
    elif path.suffix == ".npy" and path.is_file():
        try:
            weight = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise CheckpointError(f"{path} is not an .npy file that can be read: {error}") from error
    elif path.is_file():
        arrays = load_params(path)
        weight = arrays.get(f"arg:{_NAME}", arrays.get(_NAME))
        weight = None if weight is None else weight.asnumpy()
    else:
        weight = None
    if weight is None:
        raise SettingError(
            f"{path} holds no classifier of the teacher: give --teacher-classifier with the folder of the run that trained "
            f"it, a .params file with {_NAME}, or an .npy file"
        )
    if weight.shape != (num_identities, embedding_size):
        raise SettingError(
            f"the teacher's classifier in {path} has shape {weight.shape}, expected {(num_identities, embedding_size)}: it "
            "must be trained on the same identities, with the embedding size of the student"
        )
    if not np.isfinite(weight).all():
        raise CheckpointError(f"the teacher's classifier in {path} holds NaN or infinity")
    return weight.astype(np.float32)


def with_classifier(state: Arrays, weight: np.ndarray, head: str) -> Arrays:
    """Return a trainer's state with this classifier, for a head ``dense`` or ``sharded``, without its momentum."""
    kept = {key: value for key, value in state.items() if not key.partition(":")[2].startswith(_NAME)}
    if head == "dense":
        return {**kept, f"arg:{_NAME}": mx.nd.array(weight)}
    parts = range(0, len(weight), PART)
    return {**kept, **{f"arg:{_NAME}/{part}": mx.nd.array(weight[row : row + PART]) for part, row in enumerate(parts)}}


def _of_run(folder: pathlib.Path) -> np.ndarray | None:
    """Return the classifier in the newest state of a run, of its last generation; None where there is none."""
    generations = sorted(folder.glob("generation-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for run in (*reversed(generations), folder):
        states = TrainingStates(run)
        if states.updates():
            arrays = states.newest().load_arrays()
            dense = arrays.get(f"arg:{_NAME}")
            parts = [arrays[f"arg:{_NAME}/{part}"] for part in range(len(arrays)) if f"arg:{_NAME}/{part}" in arrays]
            if dense is not None:
                return dense.asnumpy()
            return np.concatenate([part.asnumpy() for part in parts]) if parts else None
    return None
