"""Several training sets as one, with disjoint identities."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from vargfacenet.data.layout import MOST_IDENTITIES
from vargfacenet.data.records import RecordSet
from vargfacenet.errors import DataError


class JoinedSets:
    """Concatenation of training sets: identity 0 of the second set follows the last identity of the first.

    A person who is in two sets counts as two identities.

    Parameters
    ----------
    paths
        Folders with ``train.rec``, ``train.idx`` and ``property``, or ``.rec`` files; each once.

    Attributes
    ----------
    sets
        The sets, in order.
    keys
        int64, 0 .. number of images - 1: the images of the first set in its order, then those of the next.
    num_identities
        Number of identities of all sets together.
    height, width
        Size of the images.

    Raises
    ------
    DataError
        If a set cannot be opened, is given twice, or has images of another size than the first.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self.sets: list[RecordSet] = []
        try:
            for path in paths:
                self.sets.append(RecordSet(path))
            self._check()
        except BaseException:
            self.close()
            raise
        self.height, self.width = self.sets[0].height, self.sets[0].width
        self._first_keys = np.cumsum([0] + [len(records) for records in self.sets])
        self._first_identities = np.cumsum([0] + [records.num_identities for records in self.sets]).tolist()
        self.keys = np.arange(self._first_keys[-1])
        self.num_identities: int = self._first_identities[-1]

    def __len__(self) -> int:
        return len(self.keys)

    def __str__(self) -> str:
        return " + ".join(str(records.path) for records in self.sets)

    def close(self) -> None:
        """Close the files."""
        for records in self.sets:
            records.close()

    def read_face(self, key: int) -> tuple[np.ndarray, int]:
        """Return the image, uint8 (height, width, 3), RGB, and the identity of a key; errors as `RecordSet.read_face`."""
        place, row = self.locate(key)
        records = self.sets[place]
        image, identity = records.read_face(int(records.keys[row]))
        return image, self._first_identities[place] + identity

    def locate(self, keys: int | np.ndarray) -> tuple[Any, Any]:
        """Return the number of the set of each key, and the row of the image in that set; integers or arrays, as given."""
        places = np.searchsorted(self._first_keys, keys, side="right") - 1
        return places, keys - self._first_keys[places]

    def _check(self) -> None:
        if not self.sets:
            raise DataError("no training set given: expected one folder or more")
        paths = [records.path.resolve() for records in self.sets]
        for records, path in zip(self.sets, paths):
            if paths.count(path) > 1:
                raise DataError(f"{records.path} is given twice; its images would count double")
            if (records.height, records.width) != (self.sets[0].height, self.sets[0].width):
                raise DataError(
                    f"{records.path} holds {records.height}x{records.width} images, {self.sets[0].path} "
                    f"{self.sets[0].height}x{self.sets[0].width}; sets that are trained on together must have one size"
                )
        if sum(records.num_identities for records in self.sets) > MOST_IDENTITIES:
            raise DataError(f"the sets have more than {MOST_IDENTITIES} identities together, the most that labels hold")
