"""Verification sets by name: which files are meant."""

import pathlib

from vargfacenet.errors import DataError
from vargfacenet.options import unknown

# As the lineage's downloads name them, in the order in which papers report them.
KNOWN = ("lfw", "cfp_ff", "cfp_fp", "agedb_30", "calfw", "cplfw", "vgg2_fp")


def find_sets(given, folder=None):
    """The files that are meant by files, folders and names.

    Parameters
    ----------
    given : sequence of str or path
        A ``.bin`` file; a folder, which stands for all sets in it, known ones first; or the name of a set in `folder`,
        such as ``lfw`` or ``CFP-FP``.
    folder : path, optional
        Where names are looked for; the working folder by default.

    Returns
    -------
    list of path

    Raises
    ------
    DataError
        Where a folder holds no set, or there is no such file.
    SettingError
        For a name of which `folder` has no set, naming the nearest that it has.
    """
    found = []
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
            found.append(path)  # a missing file is named by who reads it
        else:
            found.append(_named(str(item), pathlib.Path(".")))
    return found


def _named(name, folder):
    sets = {path.stem: path for path in folder.glob("*.bin")}
    for stem in (name, name.lower().replace("-", "_")):
        if stem in sets:
            return sets[stem]
    if not sets:
        raise DataError(f"no verification set {name!r}: {folder} holds no *.bin; give a file, or --folder DIR")
    raise unknown(f"verification set in {folder}", name, sets)


def _place(path):
    return (KNOWN.index(path.stem) if path.stem in KNOWN else len(KNOWN), path.stem)
