"""Training sets and verification sets of a run, opened and fingerprinted once."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Union

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import JoinedSets
from vargfacenet.errors import DataError
from vargfacenet.eval import read_sets
from vargfacenet.eval.pairs import Pairs
from vargfacenet.formats.files import fingerprint
from vargfacenet.train.teacher import Teacher

Path = Union[str, os.PathLike]


class TrainingData(NamedTuple):
    """The data of a run.

    Attributes
    ----------
    records
        The training sets, joined.
    pairs
        Verification sets by name.
    fingerprints
        Those of the verification sets' files, by the same names.
    """

    records: JoinedSets
    pairs: Mapping[str, Pairs]
    fingerprints: Mapping[str, str]

    def facts(self, teacher: Teacher | None = None, *, verification: bool = True) -> dict[str, Any]:
        """Return what a run depends on besides its settings, and what must be equal to resume it: JSON values.

        Parameters
        ----------
        teacher
            Whose fingerprint is one of the facts.
        verification
            Include the verification sets, which only worker 0 has.
        """
        facts: dict[str, Any] = {
            "images": len(self.records),
            "identities": self.records.num_identities,
            "records": [one.fingerprint() for one in self.records.sets],
        }
        if verification:
            facts["verification"] = dict(self.fingerprints)
        if teacher is not None:
            facts["teacher"] = teacher.fingerprint
        return facts


@contextlib.contextmanager
def open_data(data: Path | Sequence[Path], bins: Sequence[Path] = ()) -> Iterator[TrainingData]:
    """Open training sets and read verification sets; the former are closed at the end.

    Parameters
    ----------
    data
        Folder of a training set, or several, whose identities are put side by side.
    bins
        Verification sets.

    Raises
    ------
    DataError
        Where a set is missing, damaged, too small, or holds images of another size than networks here take.
    """
    pairs = read_sets(bins)
    with contextlib.closing(open_records(data)) as records:
        yield TrainingData(records, pairs, {pathlib.Path(path).stem: fingerprint([path]) for path in bins})


def open_records(data: Path | Sequence[Path]) -> JoinedSets:
    """Open the training sets in a folder or several; errors as in `open_data`."""
    records = JoinedSets([data] if isinstance(data, (str, os.PathLike)) else list(data))
    try:
        for one in records.sets:
            one.check_size(*IMAGE_SHAPE[1:])
    except DataError:
        records.close()
        raise
    return records
