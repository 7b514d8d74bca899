"""Photographs -> aligned faces, a folder at a time."""

import collections
import concurrent.futures
import pathlib
import threading

from vargfacenet.alignment import align_face
from vargfacenet.data.detector import FaceDetector
from vargfacenet.data.landmarks import read_landmarks
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError
from vargfacenet.formats.files import atomic_path, files_below, write_text
from vargfacenet.formats.images import NOT_ALIGNED, SUFFIXES, decode_image, encode_jpeg, read_image

_AT_ONCE = 64  # items that threads may be ahead

Alignment = collections.namedtuple("Alignment", "written kept faults")
Alignment.__doc__ = """What became of a folder: images written (int), images that were already there (int), and what
could not be aligned (list of (path relative to the folder, reason))."""


class DetectedPoints:
    """The points of the face that a photograph is of (`vargfacenet.data.detector.choose_face`); for several threads."""

    def __init__(self, *, threshold=0.5):
        self._make = lambda: FaceDetector(threshold=threshold)
        self._of_thread = threading.local()
        self._of_thread.detector = self._make()  # so that a missing package is known at once

    def __call__(self, name, image):
        if not hasattr(self._of_thread, "detector"):
            self._of_thread.detector = self._make()
        face = self._of_thread.detector.detect_one(image)
        if face is None:
            raise DataError("no face found")
        return face.points


class ListedPoints:
    """The points that a file lists, see `vargfacenet.data.landmarks.read_landmarks`."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.lines = read_landmarks(path)

    def __call__(self, name, image):
        if name not in self.lines:
            raise DataError(f"no line in {self.path.name}")
        return self.lines[name][0]


def align_folder(images, folder, find_points, *, progress=None):
    """Writes an aligned 112x112 JPEG for each photograph of a folder, into the same sub-folders of another one.

    An image that is already there is kept as it is, so that a run that was stopped goes on. Files that could not be
    aligned are listed with the reason in ``not-aligned.txt``, a tab between; without any, there is no such file. Names
    that start with a dot are passed over; links to folders are followed. Nothing in `images` is changed.

    Parameters
    ----------
    images : str or path
        Folder of photographs, in sub-folders of any depth.
    folder : str or path
        Where the faces go; made where it is missing.
    find_points : callable
        Of a path relative to `images` (str) and an image (uint8 RGB), turned as its EXIF data says; returns points
        (5, 2) or raises DataError. `DetectedPoints` or `ListedPoints`. Called from several threads.
    progress : callable, optional
        Wraps the list of files, as tqdm does.

    Returns
    -------
    Alignment

    Raises
    ------
    DataError
        Where `images` is missing or empty, the folders lie in one another, two files would become one, or a face cannot
        be written.
    """
    images, folder = pathlib.Path(images), pathlib.Path(folder)
    if not images.is_dir():
        raise DataError(f"no folder of images {images}")
    _refuse_nested(images.resolve(), folder.resolve())
    listed = getattr(find_points, "lines", {})
    names = _files_of(images, leave_out=getattr(find_points, "path", None))
    targets = _targets(names, folder)

    def align(name):
        if name not in targets:
            return f"no image by its name: expected {', '.join(SUFFIXES)}"
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
        (name, f"no such file, in line {line} of the list")
        for name, (_, line) in listed.items()
        if name not in outcomes
    ]
    list_path = folder / NOT_ALIGNED
    if faults:
        write_text(list_path, "".join(f"{name}\t{reason}\n" for name, reason in faults))
    elif list_path.exists():
        list_path.unlink()
    kept = sum(outcome is None for outcome in outcomes.values())
    return Alignment(len(outcomes) - kept - sum(map(bool, outcomes.values())), kept, faults)


def align_file(path, find_points):
    """The aligned face, uint8 (112, 112, 3), of a photograph's file; `find_points` is called with the image.

    Raises
    ------
    DataError
        With the reason, which doesn't name the file.
    """
    image = decode_image(read_image(path), "the file", shape=None)
    return align_face(image, find_points(image))


def in_threads(function, items):
    """Calls a function of each item from as many threads as there are cores; yields the results in order."""
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        waiting = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # where the work stops early
                future.cancel()


def _files_of(images, *, leave_out):
    """Paths of the files below a folder relative to it, with slashes, in the order of their names."""
    left_out = leave_out and leave_out.resolve()
    paths = (path for path in files_below(images) if path.is_file() and path.resolve() != left_out)
    names = (path.relative_to(images) for path in paths)
    names = sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
    if not names:
        raise DataError(f"{images} holds no file")
    return names


def _targets(names, folder):
    """Where the face of each image goes: dict of name to path."""
    targets, sources = {}, {}
    for name in names:
        if pathlib.PurePosixPath(name).suffix.lower() not in SUFFIXES:
            continue
        target = (folder / name).with_suffix(".jpg")
        if target in sources:
            raise DataError(f"{sources[target]} and {name} would both become {target}; rename one")
        targets[name], sources[target] = target, name
    return targets


def _refuse_nested(images, folder):
    if folder == images or images in folder.parents or folder in images.parents:
        raise DataError(f"{folder} and {images} lie in one another: give a folder elsewhere for the aligned faces")
