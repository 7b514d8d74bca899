"""Files that are whole or absent."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import pathlib
import re
import tempfile
from typing import Union

from vargfacenet.errors import DataError

log = logging.getLogger(__name__)

PathLike = Union[str, "os.PathLike[str]"]

MOST_LINE, MOST_LIST = 4096, 256 << 20  # bytes of a line, and of a list
MOST_JSON = 8 << 20  # bytes; a graph of a hundred layers has 0.3 million


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


def remove_leftovers(folder):
    """Removes what `atomic_path` left half written in a folder when its process was killed; nobody else may write there."""
    for path in pathlib.Path(folder).glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def alone_in(folder):
    """Keeps a folder, made where it is missing, from others of this machine that ask for the same, until the end.

    Raises
    ------
    DataError
        Where another process has it, or it cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    with file:  # a lock ends with its process, however that ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"another process is at work in {folder}: wait for it, or stop it") from error
        yield


def write_text(path, text):
    """Writes `text` (str) to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        # Names of files may be of any bytes.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def files_below(folder) -> list:
    """The paths of all files in a folder and its sub-folders, also through symbolic links, sorted.

    A link that leads back to a folder on its own way is not followed, and one that leads nowhere is logged.

    Raises
    ------
    DataError
        Where a folder cannot be read.
    """

    def refuse(error):
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    found, above = [], {os.fspath(folder): ()}
    for here, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        way = (*above.pop(here), os.path.realpath(here))
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(here, name)) not in way]
        above.update((os.path.join(here, name), way) for name in folders)
        for name in files:
            path = pathlib.Path(here, name)
            if path.exists():
                found.append(path)
            else:
                log.warning("%s is a link to nowhere: it is left out", path)
    return sorted(found)


def read_bytes(path, *, limit=None):
    """The bytes of a file; DataError where it is missing, cannot be read, or has more than `limit` of them."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if limit is None:
                return file.read()
            content = file.read(min(size, limit) + 1)
            while len(content) <= limit and size < len(content):  # a pipe, which has no size
                part = file.read(min(_BLOCK, limit + 1 - len(content)))
                if not part:
                    break
                content += part
    except (OSError, ValueError) as error:  # a path with a zero in it is the latter
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > limit:
        raise DataError(f"{path} is larger than {limit} bytes, the most that such a file may have here")
    return content


def read_lines(path):
    """The lines of a list that people write: (number from 1, text without its end) of each.

    Paths in it lead wherever they say: a list is as trusted as whoever gave it.

    Raises
    ------
    DataError
        As of `read_bytes`, and naming the first line that is no UTF-8, holds a zero byte or is longer than `MOST_LINE`.
    """
    lines = read_bytes(path, limit=MOST_LIST).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path}: line {number} is no text in UTF-8") from None
        if len(line) > MOST_LINE or "\0" in text:
            raise DataError(f"{path}: line {number} is of {len(line)} bytes or holds a zero: it is no list")
        yield number, text


def read_json(path, *, limit=MOST_JSON):
    """What a JSON file holds; DataError as of `read_bytes`, and where it is no JSON of a sane depth and length."""
    return parse_json(read_bytes(path, limit=limit), path)


def parse_json(content, where):
    """What JSON (bytes) holds; DataError, naming `where` it is from, for what is none."""
    try:
        return json.loads(content.decode("utf-8"), parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON, or damaged") from error


def _whole_number(text):
    if len(text) > 40:  # which takes time that grows with the square of its length
        raise ValueError
    return int(text)


def digest(path):
    """BLAKE2b of all bytes of a file (str, 64 hexadecimal digits); DataError where it cannot be read."""
    found = hashlib.blake2b(digest_size=32)
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return found.hexdigest()


def fingerprint(paths):
    """A digest of files (str, 32 hexadecimal digits); DataError where one cannot be read.

    It is of a file's size and all its bytes up to 256 MiB. Of a larger one it takes 4,096 blocks of 64 KiB, spread evenly
    from the first byte to the last: a change between them that leaves the size as it was is not seen.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest.update(f"{size};".encode())
                whole = size <= _BLOCKS * _BLOCK
                blocks = -(-size // _BLOCK) if whole else _BLOCKS
                for block in range(blocks):
                    file.seek(block * _BLOCK if whole else block * (size - _BLOCK) // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


_BLOCK, _BLOCKS = 1 << 16, 4096


def cache_folder():
    """The user's folder for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base).absolute() / "vargfacenet"


def write_fault(folder):
    """The reason (str) why no file can be written into a folder, which is made where it is missing; None where one can."""
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
