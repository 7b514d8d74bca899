"""The training states in a folder: the last few and the best, each complete or absent, and checked when it is read.

``states/update-N.params`` holds the arrays of the state after update N. ``states/update-N.json``, written after it, holds
everything else and the digests of both files: a state exists when its second file does. `TrainingStates` is the only
code that touches these files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from vargfacenet.errors import CheckpointError, DataError
from vargfacenet.formats.files import atomic_path, digest, read_json, remove_leftovers, write_text
from vargfacenet.formats.params import load_params, write_params
from vargfacenet.train.engine import Arrays
from vargfacenet.train.optimizer import SLOTS
from vargfacenet.train.scores import Scores

FOLDER = "states"
_VERSION = 1
_MOST_FACTS = 1 << 30  # bytes, for a run with very many verifications

log = logging.getLogger(__name__)


class TrainingState(NamedTuple):
    """A training state that was found sound, or was just saved.

    Attributes
    ----------
    update
        Updates that were made.
    facts
        Everything but the arrays: ``generation``, ``settings``, ``data``, ``threads``, ``convolutions``,
        ``verifications``.
    arrays_file
        Where the arrays are.
    """

    update: int
    facts: dict[str, Any]
    arrays_file: pathlib.Path

    @property
    def scores(self) -> Scores:
        """The verifications up to this state."""
        return {int(update): scores for update, scores in self.facts["verifications"].items()}

    def load_arrays(self) -> Arrays:
        """Read the arrays from the disk."""
        return load_params(self.arrays_file)


class TrainingStates:
    """The training states in the folder of a run, or of one of its generations.

    Parameters
    ----------
    folder
        That folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self._folder = pathlib.Path(folder) / FOLDER

    def updates(self) -> list[int]:
        """Return the updates for which there is a state, sound or not, in ascending order."""
        names = (path.stem.partition("-")[2] for path in self._folder.glob("update-*.json"))
        return sorted(int(name) for name in names if name.isdecimal())

    def save(
        self, update: int, arrays: Arrays, facts: Mapping[str, Any], *, keep: int, best: int | None = None
    ) -> TrainingState:
        """Write the state after an update, then remove all but the last `keep` states and the best one.

        Parameters
        ----------
        update
            Updates that were made.
        arrays
            The state of a trainer.
        facts
            Everything else that it takes to continue: JSON values.
        keep
            How many of the latest states stay, at least 1.
        best
            The update whose state stays too.

        Raises
        ------
        DataError
            Where it cannot be written; the earlier states are then unchanged.
        """
        arrays_file, facts_file = self._files(update)
        with atomic_path(arrays_file) as temporary:
            with open(temporary, "wb") as file:
                write_params(file, arrays)
            size, arrays_digest = temporary.stat().st_size, digest(temporary)
        content = {"version": _VERSION, "update": update, "bytes": size, "blake2b": arrays_digest, **facts}
        # As it will be read: JSON turns keys that are numbers into text.
        content = json.loads(json.dumps(content))
        write_text(facts_file, json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n")
        # A newer state was found damaged, or belongs to a run that was then resumed before it.
        kept = {*[one for one in self.updates() if one <= update][-keep:], best}
        files = {file for one in kept if one is not None for file in self._files(one)}
        # Sorted, so that .json, whose presence makes a state exist, is removed before .params.
        for path in sorted(self._folder.glob("update-*")):
            if path not in files:
                _remove(path)
        remove_leftovers(self._folder)
        return TrainingState(update, content, arrays_file)

    def newest(self) -> TrainingState:
        """Return the newest sound state, and log which newer ones are damaged.

        Raises
        ------
        CheckpointError
            Where there is none, or all are damaged.
        """
        damaged = []
        for update in reversed(self.updates()):
            try:
                state = self.read(update)
            except (CheckpointError, DataError) as error:
                damaged.append(str(error))
                continue
            if damaged:
                log.warning("%s: using the state after update %d instead", "; ".join(damaged), update)
            return state
        if damaged:
            raise CheckpointError(
                f"no state in {self._folder} is sound ({'; '.join(damaged)}): the run cannot be resumed; what it learned "
                "may still be in its checkpoints 'latest' and 'best'"
            )
        raise CheckpointError(f"{self._folder} holds no training state")

    def read(self, update: int) -> TrainingState:
        """Read the state after an update and check the digests of both files; CheckpointError where it is damaged."""
        arrays_file, facts_file = self._files(update)
        try:
            content = read_json(facts_file, limit=_MOST_FACTS)
            sound = content.pop("digest") == _digest(content) and content["update"] == update
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            sound = False
        if not sound:
            raise CheckpointError(f"{facts_file} is damaged")
        if content["version"] != _VERSION:
            raise CheckpointError(f"{facts_file} was written by another version of this package")
        try:
            size = arrays_file.stat().st_size
        except OSError as error:
            raise CheckpointError(f"{arrays_file} is missing ({error.strerror})") from error
        if size != content["bytes"]:
            raise CheckpointError(f"{arrays_file} has {size:,} bytes, expected {content['bytes']:,}")
        if digest(arrays_file) != content["blake2b"]:
            raise CheckpointError(f"{arrays_file} is damaged: its digest is not the one noted when it was saved")
        return TrainingState(update, content, arrays_file)

    def _files(self, update: int) -> tuple[pathlib.Path, pathlib.Path]:
        stem = f"update-{update:09d}"
        return self._folder / f"{stem}.params", self._folder / f"{stem}.json"


def split_by_kind(state: Arrays, expected: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """Return the arrays of a state by kind and name: ``arg``, ``aux``, ``ema``, and what optimizers keep (`SLOTS`).

    Other kinds are left out.

    CheckpointError where they are not those of the network, `expected` by kind and name.
    """
    parts: dict[str, Arrays] = {kind: {} for kind in ("arg", "aux", "ema", *SLOTS)}
    for key, value in state.items():
        kind, _, name = key.partition(":")
        if kind in parts:
            parts[kind][name] = value
    check_fits(parts, expected)
    return parts


def check_fits(parts: Mapping[str, Arrays], expected: Mapping[str, Arrays]) -> None:
    """Raise CheckpointError where the arrays of a state are not those of a network; both are arrays by kind and name."""
    for kind, arrays in expected.items():
        odd = sorted(set(arrays) ^ set(parts[kind]))
        if odd:
            where = "the network has, the state lacks" if odd[0] in arrays else "the state has, the network lacks"
            raise CheckpointError(f"the state is of another network or classifier: {where} {odd[0]}")
        for name, array in arrays.items():
            if parts[kind][name].shape != array.shape:
                raise CheckpointError(
                    f"the state is of another network or classifier: {name} has shape {parts[kind][name].shape} in it, "
                    f"expected {array.shape}"
                )


def _remove(path: pathlib.Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise DataError(f"cannot remove {path}: {error.strerror or error}") from error


def _digest(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=32).hexdigest()
