"""Write files completely or not at all, and read files of limited size."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, Union

from vargfacenet.errors import DataError
from vargfacenet.formats.content import what_it_is, without_bom

log = logging.getLogger(__name__)

PathLike = Union[str, "os.PathLike[str]"]

MOST_LINE, MOST_LIST = 4096, 256 << 20  # bytes of a line, and of a list file
MOST_JSON = 8 << 20  # bytes; the graph of a hundred layers takes 0.3 million


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[pathlib.Path]:
    """Give a temporary path next to `path` to write to; at the end it replaces `path`, or is removed after an error.

    The content reaches the disk before the name does, so that a crash leaves either the old file or the new one.
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
        # The block may also fail to read another file.
        other = error.filename and pathlib.Path(error.filename).resolve() not in (path, path.parent, temporary)
        what = f"read {error.filename}" if other else f"write {path}"
        raise DataError(f"cannot {what}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        with contextlib.suppress(OSError):
            if made:
                path.parent.rmdir()  # raises where the folder is not empty


def remove_leftovers(folder: PathLike) -> None:
    """Remove the temporary files that killed processes left in a folder. No other process may be writing there."""
    for path in pathlib.Path(folder).glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def alone_in(folder: PathLike) -> Iterator[None]:
    """Lock a folder, created where it is missing, against other processes of this machine that lock it, until the end.

    DataError where another process holds the lock, or the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    with file:  # the system releases the lock when the process ends in any way
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"another process is at work in {folder}: wait for it, or stop it") from error
        yield


def write_text(path: PathLike, text: str) -> None:
    """Write a text file completely or not at all."""
    with atomic_path(path) as temporary:
        # The text may contain file names, which may consist of any bytes.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def files_below(folder: PathLike) -> list[pathlib.Path]:
    """Return the paths of all files in a folder and its sub-folders, also through symbolic links, sorted.

    A link back to a folder that contains it is not followed, and a link without a target is logged. DataError where a
    folder cannot be read.
    """

    def refuse(error: OSError) -> NoReturn:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    found: list[pathlib.Path] = []
    parents: dict[str, tuple[str, ...]] = {os.fspath(folder): ()}
    for here, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        route = (*parents.pop(here), os.path.realpath(here))
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(here, name)) not in route]
        parents.update((os.path.join(here, name), route) for name in folders)
        for name in files:
            path = pathlib.Path(here, name)
            if path.exists():
                found.append(path)
            else:
                log.warning("skipped %s: its link has no target", path)
    return sorted(found)


def _missing_hint(path: str) -> str:
    if re.match(r"[a-z][a-z0-9+.-]*://", path):
        return "; addresses are not fetched: download it, and give the file"
    return "; several files are separated by blanks, not commas" if "," in path else ""


def read_bytes(path: PathLike, *, limit: int | None = None) -> bytes:
    """Return the content of a file; DataError where it is missing, unreadable, or longer than `limit` bytes."""
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
        hint = _missing_hint(str(path)) if isinstance(error, FileNotFoundError) else ""
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}{hint}") from error
    if len(content) > limit:
        raise DataError(f"{path} is larger than {limit} bytes, the limit for such a file")
    return content


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Yield the lines of a list: number from 1, and text without its end.

    Paths in a list are not checked: it is trusted as much as its author. DataError as from `read_bytes`, and for the first
    line that is not UTF-8, contains a zero byte or is longer than `MOST_LINE`.
    """
    lines = read_bytes(path, limit=MOST_LIST).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path}: line {number} is not UTF-8 text") from None
        if "\0" in text:
            raise DataError(f"{path}: line {number} contains a zero byte: it is not text")
        if len(line) > MOST_LINE:
            raise DataError(f"{path}: line {number} has {len(line)} bytes, expected at most {MOST_LINE}")
        yield number, text


def listed_path(name: str) -> str:
    """Return the path of a list's line with ``/`` between folders; lists from Windows have backslashes there."""
    return name if "/" in name else name.replace("\\", "/")


def read_json(path: PathLike, *, limit: int = MOST_JSON) -> Any:
    """Return the content of a JSON file; DataError as from `read_bytes`, and for JSON that is invalid or nested too deep."""
    return parse_json(read_bytes(path, limit=limit), path)


def parse_json(content: bytes, where: object) -> Any:
    """Return the content of JSON bytes; DataError, naming the source `where`, for invalid JSON."""
    try:
        return json.loads(without_bom(content).decode("utf-8"), parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON, or is damaged{what_it_is(content)}") from error


def _whole_number(text: str) -> int:
    if len(text) > 40:  # the time to convert grows with the square of the length
        raise ValueError
    return int(text)


def digest(path: PathLike) -> str:
    """Return the BLAKE2b fingerprint of a whole file, 64 hexadecimal digits; DataError where it cannot be read."""
    found = hashlib.blake2b(digest_size=32)
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return found.hexdigest()


def fingerprint(paths: Iterable[PathLike]) -> str:
    """Return a fingerprint of files, 32 hexadecimal digits; DataError where one cannot be read.

    It covers the size of each file and all bytes up to 256 MiB. Of a larger file it covers 4,096 blocks of 64 KiB, spread
    evenly from the first byte to the last; a change between them that keeps the size is not detected.
    """
    found = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                found.update(f"{size};".encode())
                whole = size <= _BLOCKS * _BLOCK
                blocks = -(-size // _BLOCK) if whole else _BLOCKS
                for block in range(blocks):
                    file.seek(block * _BLOCK if whole else block * (size - _BLOCK) // (_BLOCKS - 1))
                    found.update(file.read(_BLOCK))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return found.hexdigest()


_BLOCK, _BLOCKS = 1 << 16, 4096


def cache_folder() -> pathlib.Path:
    """Return the user's folder for files that can be created again."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base).absolute() / "vargfacenet"


def write_fault(folder: PathLike) -> str | None:
    """Return why no file can be written into a folder, created where it is missing, or None where one can."""
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _sync_folder(folder: PathLike) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
