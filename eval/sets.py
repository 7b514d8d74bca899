"""Search of verification sets by file, folder or name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from vargfacenet.errors import DataError
from vargfacenet.options import unknown

# Names of the lineage's downloads, in the order in which papers report them.
KNOWN = ("lfw", "cfp_ff", "cfp_fp", "agedb_30", "calfw", "cplfw", "vgg2_fp")


def find_sets(
    given: Iterable[str | os.PathLike[str]], folder: str | os.PathLike[str] | None = None
) -> list[pathlib.Path]:
    """Return the files of verification sets.

    Parameters
    ----------
    given
        ``.bin`` files; folders, which stand for all sets in them, known ones first; or names of sets in `folder`, such as
        ``lfw`` or ``CFP-FP``.
    folder
        Folder of the sets that are given by name; the working folder by default.

    Raises
    ------
    DataError
        If a folder holds no set, or a file does not exist.
    SettingError
        If `folder` has no set of that name; the error names the most similar one.
    """
    found: list[pathlib.Path] = []
    for item in given:
        path = pathlib.Path(item)
        is_name = path.name == str(item) and path.suffix != ".bin"
        if is_name and folder is not None:
            found.append(_named(str(item), pathlib.Path(folder)))
        elif path.is_dir():
            inside = sorted(path.glob("*.bin"), key=_place)
            if not inside:
                raise DataError(f"{path} holds no verification set (*.bin)")
            found += inside
        elif path.is_file() or not is_name:
            found.append(path)  # the reader reports a missing file
        else:
            found.append(_named(str(item), pathlib.Path(".")))
    return found


def _named(name: str, folder: pathlib.Path) -> pathlib.Path:
    sets = {path.stem: path for path in folder.glob("*.bin")}
    for stem in (name, name.lower().replace("-", "_")):
        if stem in sets:
            return sets[stem]
    if not sets:
        raise DataError(f"no verification set {name!r}: {folder} holds no *.bin; give a file, or --folder DIR")
    raise unknown(f"verification set in {folder}", name, sets)


def _place(path: pathlib.Path) -> tuple[int, str]:
    return (KNOWN.index(path.stem) if path.stem in KNOWN else len(KNOWN), path.stem)
