"""Several training sets as one, their identities side by side."""

import numpy as np

from vargfacenet.data.layout import MOST_IDENTITIES
from vargfacenet.data.records import RecordSet
from vargfacenet.errors import DataError


class JoinedSets:
    """Training sets one after the other; identity 0 of the second set follows the last one of the first.

    The same person in two sets stays two identities.

    Parameters
    ----------
    paths : sequence of path
        Folders with ``train.rec``, ``train.idx`` and ``property``, or ``.rec`` files; each once.

    Attributes
    ----------
    sets : list of RecordSet
        The sets, in order.
    keys : int64 array
        0 .. number of images - 1: those of the first set in its order, then those of the next.
    num_identities, height, width : int
        Identities of all sets together; size of the images.

    Raises
    ------
    DataError
        Where a set cannot be opened, is given twice, or has images of another size than the first.
    """

    def __init__(self, paths):
        self.sets = []
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
        self.num_identities = self._first_identities[-1]

    def __len__(self):
        return len(self.keys)

    def __str__(self):
        return " + ".join(str(records.path) for records in self.sets)

    def close(self):
        """Closes the files."""
        for records in self.sets:
            records.close()

    def read_face(self, key):
        """The image, uint8 (height, width, 3), RGB, and the identity of a key; DataError as of `RecordSet.read_face`."""
        place, row = self.locate(key)
        records = self.sets[place]
        image, identity = records.read_face(int(records.keys[row]))
        return image, self._first_identities[place] + identity

    def locate(self, keys):
        """Which set keys are of, and which image of it: ints, or arrays of them for an array."""
        places = np.searchsorted(self._first_keys, keys, side="right") - 1
        return places, keys - self._first_keys[places]

    def _check(self):
        if not self.sets:
            raise DataError("no training set given: expected one folder or more")
        paths = [records.path.resolve() for records in self.sets]
        for records, path in zip(self.sets, paths):
            if paths.count(path) > 1:
                raise DataError(f"{records.path} is given twice; its images would count double")
            if (records.height, records.width) != (self.sets[0].height, self.sets[0].width):
                raise DataError(
                    f"{records.path} holds {records.height}x{records.width} images, {self.sets[0].path} "
                    f"{self.sets[0].height}x{self.sets[0].width}; sets that train together must be of one size"
                )
        if sum(records.num_identities for records in self.sets) > MOST_IDENTITIES:
            raise DataError(f"the sets have more than {MOST_IDENTITIES} identities together, the most that labels hold")
