"""Image files that commands embed: read on the way, and skipped where they are bad and ``--skip-bad`` is given."""

import argparse
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vargfacenet.commands.arguments import Arguments
from vargfacenet.commands.model_arguments import face_options
from vargfacenet.deploy import face_of
from vargfacenet.errors import DataError
from vargfacenet.formats.images import read_image
from vargfacenet.formats.names import one_line

log = logging.getLogger(__name__)


def add_skip_argument(parser: Arguments) -> None:
    """Add ``--skip-bad``."""
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be used, and list them at the end"
    )


def face_reader(args: argparse.Namespace, files: Sequence[pathlib.Path]) -> Callable[[int], np.ndarray]:
    """Return a function that reads the face of a file by its number, with the options of `add_alignment_arguments`.

    Without ``--skip-bad``, the error of one among several files names that option.
    """
    options = face_options(args)

    def read(place: int) -> np.ndarray:
        try:
            return face_of(read_image(files[place]), str(files[place]), **options)
        except DataError as error:
            raise with_hint(args, error, len(files)) from None

    return read


def with_hint(args: argparse.Namespace, error: DataError, count: int) -> DataError:
    """Return the error of one of `count` files, which names ``--skip-bad`` where that helps."""
    return error if args.skip_bad or count == 1 else DataError(f"{error}; --skip-bad leaves such images out")


def list_faults(files: Sequence[pathlib.Path], faults: Mapping[int, str]) -> None:
    """Print the images that were skipped, and log their number; DataError where no image is left."""
    if files and len(faults) == len(files):
        raise DataError(f"none of {len(files)} image(s) can be used; the first: {next(iter(faults.values()))}")
    for place, fault in sorted(faults.items()):
        path = str(files[place])
        print(one_line(f"skipped: {fault if path in fault else f'{path}: {fault}'}"))
    if faults:
        log.warning("%d of %d images were skipped because they cannot be used", len(faults), len(files))
