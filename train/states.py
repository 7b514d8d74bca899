"""The states of a run on disk: the last few and the best, each complete or absent, and checked when it is read.

``states/update-N.params`` holds the arrays, and ``states/update-N.json``, written after it, everything else and the digest
of both: a state is there when its second file is.
"""

import functools
import hashlib
import json
import logging
import pathlib

from vargfacenet.errors import CheckpointError, DataError
from vargfacenet.formats.files import atomic_path, digest, read_json, remove_leftovers, write_text
from vargfacenet.formats.params import load_params, write_params

FOLDER = "states"
_VERSION = 1
_MOST_FACTS = 1 << 30  # bytes, of a run that was verified very often

log = logging.getLogger(__name__)


class States:
    """The states in the folder of a run, or of one of its generations.

    Parameters
    ----------
    out : path
        That folder.
    """

    def __init__(self, out):
        self._folder = pathlib.Path(out) / FOLDER

    def __bool__(self):
        return bool(self.updates())

    def updates(self):
        """Updates of which there is a state, sound or not (list of int, ascending)."""
        names = (path.stem.partition("-")[2] for path in self._folder.glob("update-*.json"))
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, update, arrays, facts, *, keep, best=None):
        """Writes the state after an update, then removes those that are not among the last `keep` or the best one's.

        Parameters
        ----------
        update : int
            Updates made.
        arrays : dict of str to NDArray
            The state of a trainer.
        facts : dict
            What else it takes to go on: JSON values.
        keep : int
            How many of the latest are kept, at least 1.
        best : int, optional
            The update whose state is kept besides.

        Raises
        ------
        DataError
            Where it cannot be written; the earlier ones are then as they were.
        """
        arrays_file, facts_file = self._files(update)
        with atomic_path(arrays_file) as temporary:
            with open(temporary, "wb") as file:
                write_params(file, arrays)
            size, mark = temporary.stat().st_size, digest(temporary)
        # As it will be read: JSON makes text of numbers that are keys.
        content = json.loads(
            json.dumps({"version": _VERSION, "update": update, "bytes": size, "blake2b": mark, **facts})
        )
        write_text(facts_file, json.dumps({**content, "digest": _mark(content)}, indent=1) + "\n")
        # What is newer was found damaged, or is of a run that was taken up before it.
        kept = {*[one for one in self.updates() if one <= update][-keep:], best}
        for path in sorted(
            self._folder.glob("update-*")
        ):  # .json before .params: what says that it is there goes first
            if path not in {file for one in kept if one is not None for file in self._files(one)}:
                _remove(path)
        remove_leftovers(self._folder)

    def newest(self, *, told=False):
        """What the newest sound state says besides its arrays (dict with ``update`` and what was saved).

        Parameters
        ----------
        told : bool
            Whether to log which states are damaged.

        Raises
        ------
        CheckpointError
            Where there is none, or all are damaged.
        """
        damaged = []
        for update in reversed(self.updates()):
            try:
                facts = self.read(update)
            except (CheckpointError, DataError) as error:
                damaged.append(str(error))
                continue
            if damaged and told:
                log.warning("%s: going on from the state after update %d instead", "; ".join(damaged), update)
            return facts
        if damaged:
            raise CheckpointError(
                f"no state in {self._folder} is sound ({'; '.join(damaged)}): the run cannot be resumed; what it learned "
                "may still be in its checkpoints 'latest' and 'best'"
            )
        raise CheckpointError(f"{self._folder} holds no state of a run")

    def read(self, update):
        """What the state after an update says besides its arrays (dict); CheckpointError where it is damaged."""
        arrays_file, facts_file = self._files(update)
        try:
            content = read_json(facts_file, limit=_MOST_FACTS)
            sound = content.pop("digest") == _mark(content) and content["update"] == update
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            sound = False
        if not sound:
            raise CheckpointError(f"{facts_file} is damaged")
        if content["version"] != _VERSION:
            raise CheckpointError(f"{facts_file} is of another version of this package")
        try:
            found = arrays_file.stat()
        except OSError as error:
            raise CheckpointError(f"{arrays_file} is missing ({error.strerror})") from error
        if found.st_size != content["bytes"]:
            raise CheckpointError(f"{arrays_file} has {found.st_size:,} bytes, expected {content['bytes']:,}")
        if _digest(arrays_file, found.st_mtime_ns, found.st_size) != content["blake2b"]:
            raise CheckpointError(f"{arrays_file} is damaged: its digest is not the one noted when it was saved")
        return content

    def arrays(self, update):
        """The arrays of a state that `read` found sound: dict of str to NDArray."""
        return load_params(self._files(update)[0])

    def _files(self, update):
        stem = f"update-{update:09d}"
        return self._folder / f"{stem}.params", self._folder / f"{stem}.json"


def check_fits(parts, expected):
    """CheckpointError where the arrays of a state are not those of a network (dicts of kind to dict of name to array)."""
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


@functools.lru_cache(maxsize=32)
def _digest(path, changed, size):
    """The digest of a file that is as it was when last asked for."""
    return digest(path)


def _remove(path):
    try:
        path.unlink()
    except OSError as error:
        raise DataError(f"cannot remove {path}: {error.strerror or error}") from error


def _mark(content):
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=32).hexdigest()
