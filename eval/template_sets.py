"""Sets of templates in the layout in which InsightFace gives IJB-B and IJB-C out.

``FOLDER/meta`` holds text files, SET being ijbb or ijbc, and ``FOLDER/loose_crop`` the images:

- ``SET_name_5pts_score.txt``: an image's name, x and y of its five points, and the face detector's score, an image a line;
- ``SET_face_tid_mid.txt``: an image's name, the template it is in, the medium it is from;
- ``SET_template_pair_label.txt``: two templates, and 1 where they show one person or 0 (1:1);
- ``SET_1N_gallery_G1.csv`` and ``_G2.csv``, of IJB-B ``_S1`` and ``_S2``, and ``SET_1N_probe_mixed.csv``: a template and its
  subject first, an image a line, so that templates recur (1:N).
"""

import collections
import dataclasses
import os
import pathlib

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.eval.meta import read_blank_separated, read_csv
from vargfacenet.options import unknown
from vargfacenet.point_order import check_point_order

SETS = ("ijbb", "ijbc")
_NAMED = 5  # of many missing images

TemplatePairs = collections.namedtuple("TemplatePairs", "first second is_same")
TemplatePairs.__doc__ = "Places of templates (int32 arrays (n,)), and whether they show one person (bool array (n,))."

Subjects = collections.namedtuple("Subjects", "templates subjects")
Subjects.__doc__ = "Places of templates (int32 array (n,), each once), and the subjects they show (int64 array (n,))."


@dataclasses.dataclass(frozen=True)
class TemplateSet:
    """Images and the templates they are in.

    Attributes
    ----------
    folder, name : path, str
        Where the set is, and ``ijbb`` or ``ijbc``.
    names : array of str (n,)
        Of the images.
    points : float32 array (n, 5, 2)
        Left eye, right eye, nose, left and right corner of the mouth, in pixels.
    scores : float32 array (n,)
        Of a face detector, at least 0.
    images, templates, media : int arrays (r,)
        An image's row above, the number of the template it is in, and of the medium it is from.
    ids : int64 array (t,)
        Numbers of the templates, ascending; a template's place is its row here.
    """

    folder: pathlib.Path
    name: str
    names: np.ndarray
    points: np.ndarray
    scores: np.ndarray
    images: np.ndarray
    templates: np.ndarray
    media: np.ndarray
    ids: np.ndarray

    def path(self, image):
        """The file of an image."""
        return _images_folder(self.folder) / self.names[image]

    def read_pairs(self):
        """The pairs of the 1:1 protocol: TemplatePairs.

        Raises
        ------
        DataError
            Naming the line, where a template is none of the set's, or a label is not 0 or 1.
        """
        table = read_blank_separated(
            self._meta("template_pair_label.txt"), [("TEMPLATE", int), ("TEMPLATE", int), ("LABEL", int)]
        )
        label = table.columns.pop()
        wrong = np.flatnonzero((label != 0) & (label != 1))
        if len(wrong):
            raise DataError(
                f"{table.where(wrong[0])}: label {label[wrong[0]]}, expected 1 for one person or 0 for different ones"
            )
        return TemplatePairs(*(self._places(table, column) for column in table.columns), label == 1)

    def read_gallery(self, number):
        """Gallery 1 or 2 of the 1:N protocol: Subjects; errors as of `read_probes`."""
        # IJB-B's are called S, as in its paper.
        found = [path for path in (self._meta(f"1N_gallery_{letter}{number}.csv") for letter in "GS") if path.exists()]
        return self._read_subjects(found[0] if found else self._meta(f"1N_gallery_G{number}.csv"))

    def read_probes(self):
        """The probes of the 1:N protocol, of mixed media: Subjects.

        Raises
        ------
        DataError
            Naming the line, where a template is none of the set's, or has two subjects.
        """
        return self._read_subjects(self._meta("1N_probe_mixed.csv"))

    def _read_subjects(self, path):
        table = read_csv(path, [("TEMPLATE_ID", int), ("SUBJECT_ID", int)])
        places, (_, subjects) = self._places(table, table.columns[0]), table.columns
        templates, firsts, row = np.unique(places, return_index=True, return_inverse=True)
        wrong = np.flatnonzero(subjects != subjects[firsts][row])
        if len(wrong):
            place = wrong[0]
            raise DataError(
                f"{table.where(place)}: template {table.columns[0][place]} shows subject {subjects[place]}, but "
                f"{subjects[firsts][row][place]} in a line before: expected one person a template"
            )
        return Subjects(templates, subjects[firsts])

    def _places(self, table, numbers):
        """Places of templates by their numbers (int32 array)."""
        import pandas

        places = pandas.Index(self.ids).get_indexer(numbers).astype(np.int32)
        wrong = np.flatnonzero(places < 0)
        if len(wrong):
            faces = self._meta("face_tid_mid.txt").name
            raise DataError(f"{table.where(wrong[0])}: template {numbers[wrong[0]]} is not in {faces}")
        return places

    def _meta(self, name):
        return _meta_file(self.folder, self.name, name)


def read_template_set(folder, name="auto", *, allow_missing=False):
    """Reads which images are in which templates, and checks that they are there.

    Parameters
    ----------
    folder : str or path
        With ``meta`` and ``loose_crop`` in it.
    name : str
        ``ijbb``, ``ijbc``, or ``auto``: the one whose files are there.
    allow_missing : bool
        Whether images may be missing.

    Returns
    -------
    TemplateSet

    Raises
    ------
    DataError
        Where a file is missing; or naming the line, where one is malformed, an image comes twice, has no points, or is
        missing.
    SettingError
        For a name of no set.
    """
    import pandas  # here, so that other protocols start without it

    folder = pathlib.Path(folder)
    name = _set_name(folder, name)
    points, scores, index = _read_points(folder, name)
    faces = read_blank_separated(
        _meta_file(folder, name, "face_tid_mid.txt"), [("NAME", str), ("TEMPLATE", int), ("MEDIUM", int)]
    )
    names, templates, media = faces.columns
    images = index.get_indexer(names)
    _refuse(faces, images < 0, lambda row: f"{names[row]} has no points in {points.path.name}")
    again = pandas.DataFrame({"image": images, "template": templates}).duplicated().to_numpy()
    _refuse(faces, again, lambda row: f"{names[row]} is in template {templates[row]} already")
    _check_files(points, _images_folder(folder), allow_missing)
    landmarks = np.stack(points.columns[1:11], axis=1).astype(np.float32).reshape(-1, 5, 2)
    check_point_order(landmarks, points.path)
    return TemplateSet(
        folder, name, points.columns[0], landmarks, scores, images, templates, media, np.unique(templates)
    )


def _read_points(folder, name):
    """The table of points, the scores in it, and an index of its names."""
    import pandas

    columns = [
        ("NAME", str),
        *((f"{axis}{number}", float) for number in range(1, 6) for axis in "xy"),
        ("SCORE", float),
    ]
    table = read_blank_separated(_meta_file(folder, name, "name_5pts_score.txt"), columns)
    names, scores = table.columns[0], table.columns[-1]
    _refuse(table, scores < 0, lambda row: f"score {scores[row]:g}, expected at least 0")
    _refuse(
        table, ["/" in name for name in names], lambda row: f"{names[row]}, expected the name of a file in loose_crop"
    )
    index = pandas.Index(names)
    _refuse(table, index.duplicated(), lambda row: f"{names[row]} is listed already")
    return table, scores.astype(np.float32), index


def _refuse(table, wrong, message):
    """DataError for the first row that is wrong."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise DataError(f"{table.where(rows[0])}: {message(rows[0])}")


def _check_files(points, images, allow_missing):
    if not images.is_dir():
        raise DataError(f"no folder of images {images}")
    there = set(os.listdir(images))
    names = points.columns[0]
    missing = [row for row, name in enumerate(names) if name not in there]
    if missing and not allow_missing:
        listed = ", ".join(names[row] for row in missing[:_NAMED])
        raise DataError(
            f"{points.where(missing[0])}: {names[missing[0]]} is not in {images}; {len(missing)} of {len(names)} "
            f"images are missing: {listed}{', ...' if len(missing) > _NAMED else ''}"
        )


def _set_name(folder, name):
    if name != "auto":
        if name not in SETS:
            raise unknown("set", name, [*SETS, "auto"])
        return name
    found = [one for one in SETS if _meta_file(folder, one, "face_tid_mid.txt").exists()]
    if len(found) != 1:
        files = " or ".join(str(_meta_file(folder, one, "face_tid_mid.txt")) for one in SETS)
        what = "holds both sets: name one" if found else f"holds no set of templates: expected {files}"
        raise DataError(f"{folder} {what}")
    return found[0]


def _meta_file(folder, name, rest):
    return folder / "meta" / f"{name}_{rest}"


def _images_folder(folder):
    return folder / "loose_crop"
