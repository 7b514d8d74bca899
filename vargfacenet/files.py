"""Files that are whole or absent."""

import contextlib
import os
import pathlib

from vargfacenet.errors import DataError


@contextlib.contextmanager
def atomic_path(path):
    """A temporary path beside `path` to write to; at the end it takes `path`'s place, or is removed on an error.

    The bytes are on the disk before the name is, so that a crash leaves the old file or the new one.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder")
    path = path.resolve()  # through a link, so that what it points to is written
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    made = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        # Whoever uses the path may also fail to read another one.
        other = error.filename and pathlib.Path(error.filename).resolve() not in (path, path.parent, temporary)
        what = f"read {error.filename}" if other else f"write {path}"
        raise DataError(f"cannot {what}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        with contextlib.suppress(OSError):
            if made:
                path.parent.rmdir()  # which goes only where nothing came to be in it


def write_text(path, text):
    """Writes `text` (str) to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_bytes(path):
    """The bytes of a file; DataError where it is missing or cannot be read."""
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
