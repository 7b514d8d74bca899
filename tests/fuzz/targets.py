"""Every reader of foreign bytes, with valid files to start from. To add a reader, add its line to `TARGETS`.

Requirement for every reader: whatever the bytes, it raises only VarGFaceNetError, in bounded time and memory.
"""

import collections
import io
import json
import pathlib
import pickle
import tempfile

import mxnet as mx
import numpy as np

from tests.deploy.torch_file import torch_bytes
from vargfacenet.data.check import check_records
from vargfacenet.data.landmarks import read_landmarks
from vargfacenet.data.writer import write_records
from vargfacenet.deploy.multipart import read_parts
from vargfacenet.deploy.runtime import _admit
from vargfacenet.errors import DataError, VarGFaceNetError
from vargfacenet.eval.features import read_features, write_features
from vargfacenet.eval.image_list import read_image_list
from vargfacenet.eval.pair_list import pairs_from_folder
from vargfacenet.eval.pairs import check_pairs, read_pairs, write_pairs
from vargfacenet.eval.text_tables import read_blank_separated, read_csv
from vargfacenet.formats.arrays import read_npy, read_npz
from vargfacenet.formats.files import parse_json
from vargfacenet.formats.graphs import read_graph
from vargfacenet.formats.images import decode_image, encode_jpeg, encode_png
from vargfacenet.formats.params import read_params
from vargfacenet.formats.torch_state import read_torch_state

Target = collections.namedtuple("Target", "seeds read")
Target.__doc__ = "A function that returns valid files (list of bytes), and one that reads arbitrary bytes."

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="vargfacenet-fuzz-"))


def attempt(target, content):
    """Read bytes, and return the VarGFaceNetError that refuses them, or None. Other errors are raised."""
    try:
        target.read(content)
    except VarGFaceNetError as error:
        return error
    return None


def of_file(read, name="file"):
    """Turn a reader of a file into a reader of its bytes."""

    def read_content(content):
        path = FOLDER / name
        path.write_bytes(content)
        return read(path)

    return read_content


def _face(value, size=112):
    stripes = np.arange(size)[:, None, None] * np.array([value, 3, 5]) % 256
    return np.broadcast_to(stripes, (size, size, 3)).astype(np.uint8)


def _set_files(name):
    """Return one file of a small training set, with checksums and as other tools write it."""
    folder = FOLDER / "sets"
    if not folder.exists():
        write_records(folder, ((identity, encode_jpeg(_face(identity))) for identity in (0, 0, 1, 1)))
    content = (folder / name).read_bytes()
    if name != "train.rec":
        return [content]
    offsets = [int(line.split()[1]) for line in (folder / "train.idx").read_text().splitlines()]
    bare = bytearray(content)
    for offset in offsets:
        bare[offset + 24 : offset + 32] = bytes(8)
    return [content, bytes(bare)]


def _read_set(name):
    def read(content):
        folder = FOLDER / "damaged"
        folder.mkdir(exist_ok=True)
        for other in ("train.rec", "train.idx", "property"):
            (folder / other).write_bytes(content if other == name else _set_files(other)[0])
        _refuse_any(check_records(folder).bad)

    return read


def _refuse_any(bad):
    if bad:
        raise DataError(f"{len(bad)} are bad, the first: {bad[0]}")


def _set_target(name):
    return Target(lambda: _set_files(name), _read_set(name))


def _bins():
    images, truth = [encode_png(_face(value)) for value in range(4)], [True, False]
    write_pairs(FOLDER / "seed.bin", images, truth)
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    return [(FOLDER / "seed.bin").read_bytes()] + [
        pickle.dumps((form, truth), protocol) for form in (images, arrays) for protocol in (0, 2, 4)
    ]


def _params():
    path = FOLDER / "seed.params"
    mx.nd.save(str(path), {"arg:a": mx.nd.ones((2, 3)), "aux:b": mx.nd.array([1, 2], dtype="float16")})
    return [path.read_bytes()]


def _graphs():
    hidden = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="conv")
    hidden = mx.sym.LeakyReLU(mx.sym.BatchNorm(hidden, name="bn"), act_type="prelu", name="act")
    hidden = mx.sym.Pooling(hidden, global_pool=True, pool_type="avg", kernel=(7, 7), name="pool")
    return [mx.sym.FullyConnected(hidden, num_hidden=8, name="fc1").tojson().encode()]


def _people(path):
    folder = FOLDER / "people" / "anna"
    if not folder.exists():
        folder.mkdir(parents=True)
        for number in (1, 2):
            (folder / f"anna_{number:04d}.jpg").write_bytes(encode_jpeg(_face(number)))
    return pairs_from_folder(folder.parent, path)


def _read_meta(path):
    return read_blank_separated(path, [("NAME", str), ("TEMPLATE", int), ("MEDIUM", int)])


def _read_subjects(path):
    return read_csv(path, [("TEMPLATE_ID", int), ("SUBJECT_ID", int)])


def _features():
    write_features(FOLDER / "seed-features.bin", [np.ones((3, 4), np.float32)], 3)
    return [(FOLDER / "seed-features.bin").read_bytes()]


def _images():
    import cv2

    return [encode_jpeg(_face(1)), encode_png(_face(2, 8))] + [
        cv2.imencode(suffix, _face(3, 16))[1].tobytes() for suffix in (".bmp", ".webp")
    ]


def _onnx():
    from tests.helpers.onnx_models import model

    return [model().SerializeToString()]


def _saved(save, *arrays, **named):
    content = io.BytesIO()
    save(content, *arrays, **named)
    return content.getvalue()


TARGETS = {
    "record": _set_target("train.rec"),
    "index": _set_target("train.idx"),
    "property": _set_target("property"),
    "bin": Target(_bins, of_file(lambda path: _refuse_any(check_pairs(read_pairs(path))), "set.bin")),
    "params": Target(_params, lambda content: read_params(io.BytesIO(content), len(content), "x.params")),
    "symbol": Target(_graphs, of_file(lambda path: read_graph(path, "fc1"), "x-symbol.json")),
    "pairs": Target(lambda: [b"1 1\nanna 1 2\nanna 1 anna 2\n"], of_file(_people, "pairs.txt")),
    "list": Target(lambda: ["a.jpg 1\nb\u00e9.jpg 2\n".encode()], of_file(read_image_list, "list.txt")),
    "landmarks": Target(lambda: [b"1\na b.jpg 1 2 9 2 5 5 2 8 8 8.5\n"], of_file(read_landmarks, "points.txt")),
    "meta": Target(lambda: [b"a.jpg 1 2\nb.jpg 1 3\n"], of_file(_read_meta, "faces.txt")),
    "csv": Target(lambda: [b"TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,2,a.jpg\n"], of_file(_read_subjects, "probe.csv")),
    "features": Target(_features, of_file(read_features, "f.bin")),
    "image": Target(_images, lambda content: decode_image(content, "it", shape=None)),
    "npy": Target(lambda: [_saved(np.save, np.ones((2, 3), np.float16))], lambda content: read_npy(content, "x.npy")),
    "npz": Target(
        lambda: [_saved(np.savez, a=np.ones(3), b=np.array(["x"]))], lambda content: read_npz(content, "x.npz")
    ),
    "form": Target(
        lambda: [b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc\r\n--x--\r\n'],
        lambda content: read_parts("multipart/form-data; boundary=x", content),
    ),
    "json": Target(lambda: [json.dumps({"a": [1, None, 2.5]}).encode()], lambda content: parse_json(content, "x.json")),
    "torch": Target(lambda: [torch_bytes({"w": np.ones((2, 3), "<f4")})], of_file(read_torch_state, "x.pt")),
    "onnx": Target(_onnx, lambda content: _admit(content, "x.onnx")),
}
