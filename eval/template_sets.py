"""Sets of templates in the layout of InsightFace's releases of IJB-B and IJB-C.

``FOLDER/loose_crop`` holds the images, ``FOLDER/meta`` text files, where SET is ijbb or ijbc:

- ``SET_name_5pts_score.txt``: per image its name, x and y of its five points, and the score of the face detector;
- ``SET_face_tid_mid.txt``: the name of an image, its template, and its medium;
- ``SET_template_pair_label.txt``: two templates, and 1 if they show the same subject, otherwise 0 (1:1);
- ``SET_1N_gallery_G1.csv`` and ``_G2.csv`` (IJB-B: ``_S1`` and ``_S2``) and ``SET_1N_probe_mixed.csv``: per image first its
  template and subject, so that templates recur (1:N).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas

from vargfacenet.errors import DataError
from vargfacenet.eval.text_tables import Table, read_blank_separated, read_csv
from vargfacenet.options import unknown
from vargfacenet.point_order import check_point_order

SETS = ("ijbb", "ijbc")
_NAMED = 5  # of many missing images


class TemplatePairs(NamedTuple):
    """Pairs of templates, by their places in `TemplateSet.ids`."""

    first: np.ndarray  # int32 (n,)
    second: np.ndarray  # int32 (n,)
    is_same: np.ndarray  # bool (n,): both show the same subject


class Subjects(NamedTuple):
    """Templates, by their places in `TemplateSet.ids`, each once, and the subjects they show."""

    templates: np.ndarray  # int32 (n,)
    subjects: np.ndarray  # int64 (n,)


@dataclasses.dataclass(frozen=True)
class TemplateSet:
    """Images and the templates they belong to; `name` is ``ijbb`` or ``ijbc``."""

    folder: pathlib.Path
    name: str
    # n images:
    names: np.ndarray  # str (n,)
    points: np.ndarray  # float32 (n, 5, 2): left eye, right eye, nose, left and right corner of the mouth, in pixels
    scores: np.ndarray  # float32 (n,): of a face detector, at least 0
    # r rows, each an image in a template:
    images: np.ndarray  # int (r,): row of the image above
    templates: np.ndarray  # int (r,): number of the template
    media: np.ndarray  # int (r,): number of the medium
    # t templates:
    ids: np.ndarray  # int64 (t,): numbers of the templates, ascending; the place of a template is its row here

    def path(self, image: int) -> pathlib.Path:
        """Return the file of an image."""
        return _images_folder(self.folder) / self.names[image]

    def read_pairs(self) -> TemplatePairs:
        """Read the pairs of the 1:1 protocol.

        Raises
        ------
        DataError
            If a template is not in the set, or a label is not 0 or 1, naming the line.
        """
        table = read_blank_separated(
            self._meta("template_pair_label.txt"), [("TEMPLATE", int), ("TEMPLATE", int), ("LABEL", int)]
        )
        label = table.columns.pop()
        wrong = np.flatnonzero((label != 0) & (label != 1))
        if len(wrong):
            raise DataError(
                f"{table.where(wrong[0])}: label {label[wrong[0]]}, expected 1 for the same subject or 0 for different ones"
            )
        first, second = (self._places(table, column) for column in table.columns)
        return TemplatePairs(first, second, label == 1)

    def read_gallery(self, number: int) -> Subjects:
        """Read gallery 1 or 2 of the 1:N protocol; errors as `read_probes`."""
        # The galleries of IJB-B are called S, as in its paper.
        found = [path for path in (self._meta(f"1N_gallery_{letter}{number}.csv") for letter in "GS") if path.exists()]
        return self._read_subjects(found[0] if found else self._meta(f"1N_gallery_G{number}.csv"))

    def read_probes(self) -> Subjects:
        """Read the probes of the 1:N protocol, of mixed media.

        Raises
        ------
        DataError
            If a template is not in the set, or has two subjects, naming the line.
        """
        return self._read_subjects(self._meta("1N_probe_mixed.csv"))

    def _read_subjects(self, path: pathlib.Path) -> Subjects:
        table = read_csv(path, [("TEMPLATE_ID", int), ("SUBJECT_ID", int)])
        places, (_, subjects) = self._places(table, table.columns[0]), table.columns
        templates, firsts, row = np.unique(places, return_index=True, return_inverse=True)
        wrong = np.flatnonzero(subjects != subjects[firsts][row])
        if len(wrong):
            place = wrong[0]
            raise DataError(
                f"{table.where(place)}: template {table.columns[0][place]} shows subject {subjects[place]}, but "
                f"{subjects[firsts][row][place]} in a line before: expected one subject per template"
            )
        return Subjects(templates, subjects[firsts])

    def _places(self, table: Table, numbers: np.ndarray) -> np.ndarray:
        """Return the places of templates, int32, by their numbers."""
        places = pandas.Index(self.ids).get_indexer(numbers).astype(np.int32)
        wrong = np.flatnonzero(places < 0)
        if len(wrong):
            faces = self._meta("face_tid_mid.txt").name
            raise DataError(f"{table.where(wrong[0])}: template {numbers[wrong[0]]} is not in {faces}")
        return places

    def _meta(self, name: str) -> pathlib.Path:
        return _meta_file(self.folder, self.name, name)


def read_template_set(
    folder: str | os.PathLike[str], name: str = "auto", *, allow_missing: bool = False
) -> TemplateSet:
    """Read the images and templates of a set, and check that the images exist.

    Parameters
    ----------
    folder
        Holds ``meta`` and ``loose_crop``.
    name
        ``ijbb``, ``ijbc``, or ``auto`` for the set whose files exist.
    allow_missing
        Accept missing images.

    Raises
    ------
    DataError
        If a file is missing; naming the line, if it is malformed, or its image is listed twice, has no points, or is
        missing.
    SettingError
        If the name is unknown.
    """
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
    _refuse(faces, again, lambda row: f"{names[row]} is already in template {templates[row]}")
    _check_files(points, _images_folder(folder), allow_missing)
    landmarks = np.stack(points.columns[1:11], axis=1).astype(np.float32).reshape(-1, 5, 2)
    check_point_order(list(landmarks), points.path)
    return TemplateSet(
        folder, name, points.columns[0], landmarks, scores, images, templates, media, np.unique(templates)
    )


def _read_points(folder: pathlib.Path, name: str) -> tuple[Table, np.ndarray, pandas.Index]:
    """Read the table of points, its scores, and an index of its names."""
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
    _refuse(table, index.duplicated(), lambda row: f"{names[row]} is already listed")
    return table, scores.astype(np.float32), index


def _refuse(table: Table, wrong: Any, message: Callable[[int], str]) -> None:
    """Raise DataError for the first row that is wrong."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise DataError(f"{table.where(rows[0])}: {message(rows[0])}")


def _check_files(points: Table, images: pathlib.Path, allow_missing: bool) -> None:
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


def _set_name(folder: pathlib.Path, name: str) -> str:
    if name != "auto":
        if name not in SETS:
            raise unknown("set", name, [*SETS, "auto"])
        return name
    found = [one for one in SETS if _meta_file(folder, one, "face_tid_mid.txt").exists()]
    if len(found) != 1:
        files = " or ".join(str(_meta_file(folder, one, "face_tid_mid.txt")) for one in SETS)
        what = "holds both sets: choose one by its name" if found else f"holds no set of templates: expected {files}"
        raise DataError(f"{folder} {what}")
    return found[0]


def _meta_file(folder: pathlib.Path, name: str, rest: str) -> pathlib.Path:
    return folder / "meta" / f"{name}_{rest}"


def _images_folder(folder: pathlib.Path) -> pathlib.Path:
    return folder / "loose_crop"
