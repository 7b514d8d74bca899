"""Verification sets, ``NAME.bin``: a pickle of encoded pictures, two a pair, and of which pairs are the same person.

A pickle can run any code. The reader here admits what such a file needs, bytes and arrays of bytes, as Python 2 and 3
wrote them, and refuses everything else before anything is called.
"""

import collections
import io
import pathlib
import pickle

import numpy as np

from vargfacenet.errors import DataError
from vargfacenet.files import atomic_path, read_bytes
from vargfacenet.pictures import SUFFIXES, as_face_jpeg, decode_picture, is_cut

Pairs = collections.namedtuple("Pairs", "pictures is_same")
Pairs.__doc__ = (
    "Encoded pictures (list of bytes), 2i and 2i + 1 of pair i, and whether they are one person (bool array)."
)


def read_pairs(path):
    """Reads a verification set.

    Parameters
    ----------
    path : str or path
        The ``.bin`` file, written by Python 2 or 3, pictures as bytes or as 1-D uint8 arrays.

    Returns
    -------
    Pairs

    Raises
    ------
    DataError
        Where the file is missing, holds anything else than such a set (none of which is run), or is inconsistent.
    """
    content = _PairsUnpickler.load_bytes(read_bytes(path), path)
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise DataError(f"{path} is no verification set: expected (pictures, is_same), found {_kind(content)}")
    pictures, is_same = (_listed(part) for part in content)
    if pictures is None or is_same is None:
        raise DataError(f"{path} is no verification set: expected two lists, found {' and '.join(map(_kind, content))}")
    if len(pictures) != 2 * len(is_same) or not is_same:
        raise DataError(f"{path} holds {len(pictures)} pictures for {len(is_same)} pairs, expected two a pair")
    pictures = [_encoded(picture, index, path) for index, picture in enumerate(pictures)]
    if not all(isinstance(same, (bool, int, np.bool_, np.integer)) and same in (0, 1) for same in is_same):
        raise DataError(f"{path}: expected true or false for each pair")
    return Pairs(pictures, np.array(is_same, dtype=bool))


def write_pairs(path, pictures, is_same):
    """Writes a verification set as the lineage does; whole or not at all.

    Parameters
    ----------
    path : str or path
        The ``.bin`` file.
    pictures : sequence of bytes
        Encoded pictures, two a pair.
    is_same : sequence of bool
        The truth of each pair.
    """
    content = ([bytes(picture) for picture in pictures], [bool(same) for same in is_same])
    if len(content[0]) != 2 * len(content[1]):
        raise DataError(f"{len(content[0])} pictures for {len(content[1])} pairs, expected two a pair")
    with atomic_path(path) as temporary:
        # Protocol 2 is the newest that Python 2 reads.
        temporary.write_bytes(pickle.dumps(content, protocol=2))


def pairs_from_folder(images, pairs_file, *, resize=False):
    """Pairs of a folder per person, listed as in LFW's ``pairs.txt``.

    Its first line holds the number of folds and of pairs a kind in each (or the latter alone); then a line
    ``NAME i j`` is a pair of one person and ``NAME1 i NAME2 j`` one of two; picture i of NAME is
    ``NAME/NAME_%04d.jpg``, or ``.png``. With `resize`, pictures of another size are scaled to 112x112.

    Returns
    -------
    Pairs

    Raises
    ------
    DataError
        Naming the line, for what is no pair or a picture that is missing or none.
    """
    images = pathlib.Path(images)
    if not images.is_dir():
        raise DataError(f"no folder of images {images}")
    text = read_bytes(pairs_file).decode("utf-8", errors="replace")
    pictures, is_same = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        where, fields = f"{pairs_file}: line {number}", line.split()
        if not fields or (number == 1 and len(fields) <= 2):
            continue
        if len(fields) == 3:
            fields = [fields[0], fields[1], fields[0], fields[2]]
            is_same.append(True)
        elif len(fields) == 4:
            is_same.append(False)
        else:
            raise DataError(f"{where} reads {line.strip()[:60]!r}, expected NAME i j or NAME1 i NAME2 j")
        for name, picture in (fields[:2], fields[2:]):
            path = _person_picture(images, name, picture, where)
            pictures.append(as_face_jpeg(read_bytes(path), str(path), resize=resize))
    if not is_same:
        raise DataError(f"{pairs_file} lists no pair")
    return Pairs(pictures, np.array(is_same))


def check_pairs(pairs):
    """The pictures of a set that cannot be used: list of (number of the picture, reason)."""
    bad = []
    for index, encoded in enumerate(pairs.pictures):
        try:
            decode_picture(encoded, "picture")
        except DataError as error:
            bad.append((index, str(error)))
            continue
        if is_cut(encoded):
            bad.append((index, "JPEG that is cut before its end"))
    return bad


def _person_picture(images, name, number, where):
    if not number.isdigit():
        raise DataError(f"{where}: picture {number!r} of {name}, expected a whole number")
    stem = str(images / name / f"{name}_{int(number):04d}")
    for suffix in SUFFIXES:
        path = pathlib.Path(stem + suffix)
        if path.is_file():
            return path
    raise DataError(f"{where}: no picture {stem}.jpg (or .png)")


class _PairsUnpickler(pickle.Unpickler):
    """Reads pickles of lists, bytes and arrays; what they name is answered by stand-ins, never by the real thing."""

    @classmethod
    def load_bytes(cls, content, path):
        try:
            # Python 2's strings are bytes.
            return cls(io.BytesIO(content), encoding="bytes").load()
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except MemoryError:
            raise DataError(f"{path} is no verification set: it announces more than memory holds") from None
        except Exception as error:  # noqa: BLE001 - damaged pickles raise anything
            raise DataError(f"{path} is no verification set: {error or type(error).__name__}") from None

    def find_class(self, module, name):
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise DataError(f"its pickle asks for {module}.{name}, which no verification set needs; nothing was run")
        return stand_in

    def persistent_load(self, pid):
        raise DataError("its pickle refers to objects outside it")


class _Dtype:
    """Stands for numpy.dtype: 'u1' and 'b1' only."""

    def __init__(self, code, *_):
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if code not in ("u1", "b1", "|u1", "|b1"):
            raise DataError(f"its pickle holds an array of {code!r}, expected bytes (u1)")
        self.kind = np.bool_ if "b1" in code else np.uint8

    def __setstate__(self, state):
        pass  # byte order and the like: single bytes have none


class _Array:
    """Stands for numpy.ndarray: a list of single bytes."""

    values = np.empty(0, np.uint8)

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        _, shape, dtype, _, raw = state
        if isinstance(raw, str):
            raw = raw.encode("latin1")
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or len(shape) != 1 or shape[0] != len(raw):
            raise DataError("its pickle holds an array that is not one row of bytes")
        self.values = np.frombuffer(raw, np.uint8).astype(dtype.kind)


def _scalar(dtype, raw):
    return bool(np.frombuffer(raw if isinstance(raw, bytes) else raw.encode("latin1"), np.uint8)[0])


def _encode(text, encoding):
    """Stands for _codecs.encode, by which protocol 2 writes bytes."""
    if encoding not in ("latin1", b"latin1") or not isinstance(text, str):
        raise DataError("its pickle encodes text other than bytes")
    return text.encode("latin1")


_STAND_INS = {
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _Array), ("scalar", _scalar))
    },
    # An empty bytes object, as protocol 2 writes it; bytes(10 ** 12) would not be so small.
    ("__builtin__", "bytes"): lambda *arguments: b"" if not arguments else _refuse_bytes(),
    ("builtins", "bytes"): lambda *arguments: b"" if not arguments else _refuse_bytes(),
}


def _refuse_bytes():
    raise DataError("its pickle builds bytes in a way no verification set needs")


def _listed(part):
    if isinstance(part, _Array):
        return part.values.tolist()
    return list(part) if isinstance(part, (list, tuple)) else None


def _encoded(picture, index, path):
    if isinstance(picture, _Array):
        return picture.values.tobytes()
    if isinstance(picture, (bytes, bytearray)):
        return bytes(picture)
    raise DataError(f"{path}: picture {index} is {_kind(picture)}, expected bytes or an array of them")


def _kind(value):
    return (
        f"{type(value).__name__.strip('_').lower()} of {len(value)}" if hasattr(value, "__len__") else repr(value)[:40]
    )
