"""Alignment of the photographs in a folder."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from vargfacenet.alignment import align_face
from vargfacenet.data.detector import FaceDetector
from vargfacenet.data.landmarks import read_landmarks
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError
from vargfacenet.formats.content import what_file_it_is
from vargfacenet.formats.files import atomic_path, files_below, write_text
from vargfacenet.formats.images import NOT_ALIGNED, SUFFIXES, decode_image, encode_jpeg, read_image
from vargfacenet.formats.names import one_line

_LOOKAHEAD = 64  # items that are submitted before the first result is needed
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Alignment(NamedTuple):
    """Result of aligning a folder: the number of images written, the number kept because they existed, and the faults."""

    written: int
    kept: int
    faults: list[tuple[str, str]]  # path relative to the folder, and the reason


class DetectedPoints:
    """Points of the main face of a photograph (see `vargfacenet.data.detector.choose_face`); safe to call from threads."""

    def __init__(self, *, threshold: float = 0.5) -> None:
        self._threshold = threshold
        self._local = threading.local()
        self._local.detector = FaceDetector(threshold=threshold)  # raises at once if the package is missing

    def __call__(self, name: object, image: np.ndarray) -> np.ndarray:
        if not hasattr(self._local, "detector"):
            self._local.detector = FaceDetector(threshold=self._threshold)
        face = self._local.detector.detect_one(image)
        if face is None:
            raise DataError("no face found")
        return face.points


class ListedPoints:
    """Points that a file lists, see `vargfacenet.data.landmarks.read_landmarks`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self.lines = read_landmarks(path)

    def __call__(self, name: str, image: np.ndarray) -> np.ndarray:
        if name not in self.lines:
            raise DataError(f"{self.path.name} has no line for it")
        return self.lines[name].points


def align_folder(
    images: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    find_points: Callable[[str, np.ndarray], np.ndarray],
    *,
    progress: Callable[[list[str]], Iterable[str]] | None = None,
) -> Alignment:
    """Write an aligned 112x112 JPEG for each photograph of a folder, into the same sub-folders of another folder.

    An image that already exists in `folder` is kept, so that an interrupted run can be resumed. Files that cannot be
    aligned are listed with the reason in ``not-aligned.txt``, separated by a tab; without such files the list does not
    exist. Names that start with a dot are skipped. Links to folders are followed. Nothing in `images` is changed.

    Parameters
    ----------
    images
        Folder of photographs, in sub-folders of any depth.
    folder
        Output folder; created if missing.
    find_points
        Returns the points, float (5, 2), of an image, or raises DataError. It receives the path relative to `images`
        and the image, uint8 RGB, rotated as its EXIF orientation says. It is called from several threads. Use
        `DetectedPoints` or `ListedPoints`.
    progress
        Wraps the list of files, as tqdm does.

    Raises
    ------
    DataError
        If `images` is missing or empty, one folder contains the other, two files have the same output path, or a face
        cannot be written.
    """
    images, folder = pathlib.Path(images), pathlib.Path(folder)
    if not images.is_dir():
        raise DataError(f"no folder of images {images}{what_file_it_is(images)}")
    _refuse_nested(images.resolve(), folder.resolve())
    listed = find_points.lines if isinstance(find_points, ListedPoints) else {}
    names = _files_of(images, leave_out=find_points.path if isinstance(find_points, ListedPoints) else None)
    targets = _targets(names, folder)

    def align(name: str) -> str | None:
        """Return the reason why a file is not aligned, an empty string if it is, None if its face exists already."""
        if name not in targets:
            return f"not an image by its suffix: expected {', '.join(SUFFIXES)}"
        if targets[name].exists():
            return None
        try:
            face = align_file(images / name, lambda image: find_points(name, image))
        except DataError as error:
            return str(error)
        with atomic_path(targets[name]) as temporary:
            temporary.write_bytes(encode_jpeg(face))
        return ""

    outcomes = dict(zip(names, in_threads(align, progress(names) if progress else names)))
    faults = [(name, outcome) for name, outcome in outcomes.items() if outcome]
    faults += [
        (name, f"listed in line {landmarks.line}, but there is no such file")
        for name, landmarks in listed.items()
        if name not in outcomes
    ]
    list_path = folder / NOT_ALIGNED
    if faults:
        write_text(list_path, "".join(f"{one_line(name)}\t{one_line(reason)}\n" for name, reason in faults))
    elif list_path.exists():
        list_path.unlink()
    kept = sum(outcome is None for outcome in outcomes.values())
    return Alignment(len(outcomes) - kept - sum(map(bool, outcomes.values())), kept, faults)


def align_file(path: pathlib.Path, find_points: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the aligned face, uint8 (112, 112, 3), of an image file; `find_points` receives the image.

    Raises
    ------
    DataError
        With the reason, which does not name the file.
    """
    image = decode_image(read_image(path), "the file", shape=None)
    return align_face(image, find_points(image))


def in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Call a function for each item, in one thread per core, and yield the results in order."""
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        waiting: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == _LOOKAHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # not empty if the caller stops early
                future.cancel()


def _files_of(images: pathlib.Path, *, leave_out: pathlib.Path | None) -> list[str]:
    """Return the files in a folder as sorted relative paths with slashes."""
    left_out = leave_out and leave_out.resolve()
    paths = (path for path in files_below(images) if path.is_file() and path.resolve() != left_out)
    relative = (path.relative_to(images) for path in paths)
    names = sorted(path.as_posix() for path in relative if not any(part.startswith(".") for part in path.parts))
    if not names:
        raise DataError(f"{images} holds no file")
    return names


def _targets(names: list[str], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Map the name of each image to the path of its face."""
    targets: dict[str, pathlib.Path] = {}
    sources: dict[pathlib.Path, str] = {}
    for name in names:
        if pathlib.PurePosixPath(name).suffix.lower() not in SUFFIXES:
            continue
        target = (folder / name).with_suffix(".jpg")
        if target in sources:
            raise DataError(f"{sources[target]} and {name} would both become {target}; rename one")
        targets[name], sources[target] = target, name
    return targets


def _refuse_nested(images: pathlib.Path, folder: pathlib.Path) -> None:
    if folder == images or images in folder.parents or folder in images.parents:
        raise DataError(f"one of {folder} and {images} contains the other: choose another folder for the aligned faces")
