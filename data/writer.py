"""Writing training sets in InsightFace's layout."""

import contextlib
import pathlib

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data.layout import FRAME, MOST_IDENTITIES, pack, seal
from vargfacenet.errors import DataError
from vargfacenet.formats.files import atomic_path
from vargfacenet.formats.images import as_face_jpeg, images_by_identity, read_image


def write_records(folder, faces):
    """Writes ``train.rec``, ``train.idx`` and ``property``, with the identity index record; all whole or none.

    Each record bears a checksum, where the lineage's readers do not look.

    Parameters
    ----------
    folder : str or path
        Made where it is missing. DataError where it already holds a set.
    faces : iterable of (int, bytes)
        Identity and encoded image; the images of an identity follow one another, identities count from 0.

    Returns
    -------
    tuple of 2 int
        Images and identities written.
    """
    folder = pathlib.Path(folder)
    targets = [folder / name for name in ("train.rec", "train.idx", "property")]
    for path in targets:
        if path.exists():
            raise DataError(f"{path} is already there; give another folder, or remove it first")
    with contextlib.ExitStack() as stack:
        record_file, index_file, property_file = (stack.enter_context(atomic_path(path)) for path in targets)
        writer = mx.recordio.MXIndexedRecordIO(str(index_file), str(record_file), "w")
        stack.callback(writer.close)
        # Record 0 says where the identity records lie, which is known only at the end: its place is kept.
        writer.write_idx(0, _packed((0.0, 0.0), 0, b""))
        firsts, key = [], 1
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
        for first, after in zip(firsts, [*firsts[1:], end_of_images]):
            writer.write_idx(key, _packed((float(first), float(after)), key, b""))
            key += 1
        writer.close()
        with open(record_file, "r+b") as written:
            written.seek(FRAME.size)
            written.write(_packed((float(end_of_images), float(key)), 0, b""))
        property_file.write_text("{},{},{}".format(len(firsts), *IMAGE_SHAPE[1:]))
    return end_of_images - 1, len(firsts)


def faces_of_folder(folder, *, resize=False, progress=None):
    """The faces of a folder that holds one folder of images for each identity, in the order of `images_by_identity`.

    Parameters
    ----------
    folder : str or path
        The folder of folders.
    resize : bool
        Scales images of another size to 112x112; without, they are an error.
    progress : callable, optional
        Wraps the list of identities, as tqdm does.

    Yields
    ------
    int, bytes
        Identity, from 0, and JPEG.

    Raises
    ------
    DataError
        For a folder that is missing, holds no identity, an identity without image, or a file that is no image.
    """
    people = list(images_by_identity(folder))
    for identity, (_, images) in enumerate(progress(people) if progress else people):
        for path in images:
            yield identity, as_face_jpeg(read_image(path), str(path), resize=resize)


def _packed(label, key, encoded):
    return seal(pack(label, key, encoded), key)
