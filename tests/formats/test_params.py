"""The reader of .params against MXNet's own on whole files, and alone on damaged and made-up ones."""

import io
import struct

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import CheckpointError
from vargfacenet.formats.params import load_params, read_params, write_params

NUMBERS = np.arange(6).reshape(2, 3)


def saved(path, arrays):
    mx.nd.save(str(path), arrays)
    return path.read_bytes()


def legacy(array, *, version=None):
    """An array as MXNet 0.8 (32-bit shapes) or, with a version, 0.11 (64-bit ones) wrote it: on a GPU, float32."""
    form = f"<{array.ndim}{'q' if version else 'I'}"
    head = struct.pack("<I", version) + struct.pack("<i", array.ndim) if version else struct.pack("<I", array.ndim)
    return head + struct.pack(form, *array.shape) + struct.pack("<iii", 2, 0, 0) + array.astype("<f4").tobytes()


def listed(arrays, names=None):
    names = [f"arg:{index}".encode() for index in range(len(arrays))] if names is None else names
    content = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays)
    return content + struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names)


def equal(path):
    ours, theirs = load_params(path), mx.nd.load(str(path))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        np.testing.assert_array_equal(ours[name].asnumpy(), value.asnumpy())
    return ours


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"])
def test_every_type_that_mxnet_saves_reads_as_by_mxnet(tmp_path, dtype):
    path = tmp_path / "x.params"
    saved(path, {"arg:a": mx.nd.array(NUMBERS, dtype=dtype), "aux:\u00e9": mx.nd.array([1], dtype=dtype)})
    assert equal(path)["arg:a"].shape == (2, 3)


def test_shapes_of_numpy_semantics_read_alike(tmp_path):
    path = tmp_path / "x.params"
    with mx.util.np_shape(True):
        saved(path, {"a": mx.nd.array(NUMBERS)})
        equal(path)  # MXNet refuses it elsewhere
    np.testing.assert_array_equal(load_params(path)["a"].asnumpy(), NUMBERS)


@pytest.mark.parametrize("version", [None, 0xF993FAC8])
def test_the_forms_of_older_versions_read_alike(tmp_path, version):
    path = tmp_path / "x.params"
    path.write_bytes(listed([legacy(NUMBERS, version=version), legacy(np.ones((3, 1, 2, 2)), version=version)]))
    np.testing.assert_array_equal(equal(path)["arg:0"].asnumpy(), NUMBERS)


def test_an_empty_list_reads_alike(tmp_path):
    (tmp_path / "x.params").write_bytes(listed([]))
    assert load_params(tmp_path / "x.params") == {}


def test_a_real_checkpoint_of_2018_reads_alike(real_faces):
    assert len(equal(real_faces / "teacher" / "model-0000.params")) == 284


ARRAY = legacy(NUMBERS)
NEW = struct.pack("<Ii", 0xF993FAC9, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "announces 16 bytes where 0 are left"),
        (b"\x13" + listed([ARRAY])[1:], "does not begin with the number 0x112"),
        (listed([ARRAY])[:-3], "announces 5 bytes where 2 are left"),
        (listed([ARRAY]) + b"x", "1 bytes follow the last name"),
        (struct.pack("<QQQ", 0x112, 0, 1 << 60), "a list of 1152921504606846976 where 0 bytes are left"),
        (struct.pack("<QQQ", 0x112, 0, 50_000) + bytes(100), "a list of 50000 where 100 bytes are left"),
        (listed([struct.pack("<II", 1, 1 << 31) + struct.pack("<iii", 1, 0, 0)]), "announces 8589934592 bytes"),
        (listed([NEW + struct.pack("<iqq", 2, 1 << 32, 1 << 32) + struct.pack("<iii", 1, 0, 0)]), "announces 7378"),
        (listed([NEW + struct.pack("<iq", 1, -4) + struct.pack("<iii", 1, 0, 0)]), r"shape \(-4,\)"),
        (listed([NEW + struct.pack("<i", 1 << 30) + bytes(40)]), "an array of 1073741824 dimensions"),
        (listed([NEW + struct.pack("<i", -1) + bytes(40)]), "an array of -1 dimensions"),
        (listed([NEW + struct.pack("<i", 0) + bytes(40)]), "an array of 0 dimensions"),
        (listed([struct.pack("<Ii", 0xF993FAC9, 2) + bytes(40)]), "storage type 2, expected dense"),
        (listed([NEW + struct.pack("<iq", 1, 1) + struct.pack("<iii", 1, 0, 99) + bytes(8)]), "numbers of type 99"),
        (listed([ARRAY], [b"x" * 2000]), "a name of 2000 bytes"),
        (listed([ARRAY], [b"\xff\xfe"]), "a name that is not UTF-8 text"),
        (listed([ARRAY], []), "arrays without names"),
        (listed([ARRAY], [b"a", b"b"]), "1 arrays with 2 different names"),
        (listed([ARRAY, ARRAY], [b"a", b"a"]), "2 arrays with 1 different names"),
    ],
)
def test_what_is_damaged_or_made_up_is_refused(content, message):
    with pytest.raises(CheckpointError, match=f"^x.params .*{message}"):
        read_params(io.BytesIO(content), len(content), "x.params")


def test_a_file_that_becomes_shorter_while_it_is_read_is_reported():
    content = listed([ARRAY])
    with pytest.raises(CheckpointError, match="has become shorter"):
        read_params(io.BytesIO(content[:50]), len(content), "x.params")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read .*x.params: No such file"):
        load_params(tmp_path / "x.params")


def test_files_of_arrays_are_those_that_mxnet_writes(tmp_path):
    random = np.random.RandomState(0)
    arrays = {
        f"arg:{kind}é": mx.nd.array(random.uniform(0, 100, shape), dtype=kind)
        for kind, shape in (
            ("float32", (3, 4)),
            ("float64", (1,)),
            ("float16", (2, 1, 5)),
            ("int64", (7,)),
            ("uint8", (2,)),
        )
    }
    mx.nd.save(str(tmp_path / "theirs"), arrays)
    with open(tmp_path / "ours", "wb") as file:
        write_params(file, arrays)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
