"""Writer of training sets in InsightFace's layout."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data.layout import FRAME, MOST_IDENTITIES, add_checksum, pack
from vargfacenet.errors import DataError
from vargfacenet.formats.files import atomic_path
from vargfacenet.formats.images import as_face_jpeg, images_by_identity, read_image


def write_records(folder: str | os.PathLike[str], faces: Iterable[tuple[int, bytes]]) -> tuple[int, int]:
    """Write ``train.rec``, ``train.idx`` and ``property``, with the index record of identities; all files or none.

    Each record has a checksum in a field that the lineage's readers ignore. Returns the numbers of images and identities.

    Parameters
    ----------
    folder
        Created if missing; must not hold a set.
    faces
        Identity and encoded image. Identities count from 0; the images of an identity follow one another.

    Raises
    ------
    DataError
        If the folder holds a set already, identities are not in order, or a limit of the layout is exceeded.
    """
    folder = pathlib.Path(folder)
    targets = [folder / name for name in ("train.rec", "train.idx", "property")]
    for path in targets:
        if path.exists():
            raise DataError(f"{path} already exists; give another folder, or remove it first")
    with contextlib.ExitStack() as stack:
        record_file, index_file, property_file = (stack.enter_context(atomic_path(path)) for path in targets)
        writer = mx.recordio.MXIndexedRecordIO(str(index_file), str(record_file), "w")
        stack.callback(writer.close)
        # Record 0 holds the range of the identity records, which is known only at the end: its place is reserved.
        writer.write_idx(0, _packed((0.0, 0.0), 0, b""))
        firsts: list[int] = []
        key = 1
        for identity, encoded in faces:
            if identity == len(firsts):
                firsts.append(key)
            elif identity != len(firsts) - 1:
                raise DataError(f"identity {identity} follows {len(firsts) - 1}: expected them in order, from 0")
            writer.write_idx(key, _packed(float(identity), key, encoded))
            key += 1
            if key + len(firsts) > MOST_IDENTITIES:
                raise DataError(f"more than {MOST_IDENTITIES} records: the layout numbers them by float32")
        if not firsts:
            raise DataError(f"no face to write into {folder}")
        end_of_images = key
        for first, end in zip(firsts, [*firsts[1:], end_of_images]):
            writer.write_idx(key, _packed((float(first), float(end)), key, b""))
            key += 1
        writer.close()
        with open(record_file, "r+b") as written:
            written.seek(FRAME.size)
            written.write(_packed((float(end_of_images), float(key)), 0, b""))
        property_file.write_text("{},{},{}".format(len(firsts), *IMAGE_SHAPE[1:]))
    return end_of_images - 1, len(firsts)


def faces_of_folder(
    folder: str | os.PathLike[str],
    *,
    resize: bool = False,
    progress: Callable[[list], Iterable] | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Yield identity, from 0, and JPEG of the faces in a folder that holds one folder of images for each identity.

    Parameters
    ----------
    folder
        Read in the order of `images_by_identity`.
    resize
        Scale images of another size to 112x112; otherwise they are an error.
    progress
        Wraps the list of identities, as tqdm does.

    Raises
    ------
    DataError
        If the folder is missing or holds no identity, an identity has no image, or a file is not an image.
    """
    identities = list(images_by_identity(folder))
    for identity, (_, images) in enumerate(progress(identities) if progress else identities):
        for path in images:
            yield identity, as_face_jpeg(read_image(path), str(path), resize=resize)


def _packed(label: float | tuple[float, ...], key: int, encoded: bytes) -> bytes:
    return add_checksum(pack(label, key, encoded), key)
