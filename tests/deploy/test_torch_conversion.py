"""PyTorch's state dicts: read without PyTorch, and converted to the networks that they are of."""

import collections
import os
import pickle
import zipfile

import mxnet as mx
import numpy as np
import pytest

from tests.deploy.torch_file import tensor, torch_bytes
from tests.helpers.networks import save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.deploy.torch_conversion import convert_torch_state
from vargfacenet.errors import CheckpointError
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.torch_state import read_torch_state
from vargfacenet.symbols import parameter_order

RANDOM = np.random.RandomState(0)


def write(path, content, **options):
    path.write_bytes(torch_bytes(content, **options))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_state_dict_comes_back_with_names_order_types_and_numbers(tmp_path, protocol):
    state = collections.OrderedDict(
        second=RANDOM.normal(size=(3, 2, 1, 1)).astype("<f4"),
        first=RANDOM.normal(size=4),
        half=RANDOM.normal(size=5).astype("<f2"),
        counter=np.array(7, "<i8"),
        empty=np.zeros((0, 3), "<f4"),
    )
    found = read_torch_state(write(tmp_path / "x.pt", state, protocol=protocol))
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_inside_a_checkpoint_of_a_trainer_is_taken(tmp_path, key):
    found = read_torch_state(
        write(tmp_path / "x.pt", {"epoch": 3, "lr": 0.1, key: {"w": np.ones(2, "<f4")}, "on": True})
    )
    np.testing.assert_array_equal(found["w"], np.ones(2))


def test_views_of_a_storage_are_what_their_strides_say(tmp_path):
    numbers = np.arange(24, dtype="<f4")
    state = {
        "part": tensor(numbers, offset=4, shape=(2, 3)),
        "channels_last": tensor(numbers, offset=0, shape=(2, 3, 2, 2), strides=(12, 1, 6, 3)),
    }
    found = read_torch_state(write(tmp_path / "x.pt", state))
    np.testing.assert_array_equal(found["part"], numbers[4:10].reshape(2, 3))
    np.testing.assert_array_equal(found["channels_last"], numbers.reshape(2, 2, 2, 3).transpose(0, 3, 1, 2))


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 0.15625], np.float32)
    found = read_torch_state(write(tmp_path / "x.pt", {"w": (values.view(np.uint32) >> 16).astype("<u2")}))
    np.testing.assert_array_equal(found["w"], values)


class Runs:
    """What a file must not run."""

    def __reduce__(self):
        return os.system, ("false",)


def changed(content, change):
    """A file with its pickle changed."""

    def of(path):
        write(path, content)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["archive/data.pkl"] = change(members["archive/data.pkl"])
        with zipfile.ZipFile(path, "w") as archive:
            for name, raw in members.items():
                archive.writestr(name, raw)

    return of


W = {"w": np.ones(4, "<f4")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(pickle.dumps([1])), "is not a file of PyTorch 1.6 or later, or is damaged"),
        (lambda path: None, "cannot read .* No such file"),
        (lambda path: write(path, {"w": Runs()}), "it names '(posix|nt) system', which is no part of a state dict"),
        (lambda path: write(path, {"w": 3}), "'w' is no tensor; save model.state_dict"),
        (lambda path: write(path, np.ones(2, "<f4")), "it is not a dict of tensors by name"),
        (lambda path: write(path, {3: np.ones(2, "<f4")}), "it is not a dict of tensors by name"),
        (lambda path: write(path, W, byteorder=b"big"), "its numbers are big-endian"),
        (lambda path: write(path, W, folder="a/b"), "has no data.pkl"),
        (lambda path: write(path, W, compression=zipfile.ZIP_DEFLATED), "is compressed, which torch.save does not do"),
        (
            lambda path: write(path, {"w": tensor(np.ones(4, "<f4"), offset=2, shape=(3,))}),
            r"of shape \(3,\) is larger than its storage",
        ),
        (
            lambda path: write(path, {"w": tensor(np.ones(4, "<f4"), shape=(2, 2), strides=(9, 1))}),
            "reaches beyond its storage",
        ),
        (
            lambda path: write(path, {"w": tensor(np.ones(4, "<f4"), shape=(1 << 20, 1 << 19), strides=(0, 0))}),
            "reaches beyond its storage",
        ),
        (
            lambda path: write(path, dict.fromkeys("abcdefgh", np.ones(4096, "<f4"))),
            "its tensors hold more numbers than the file",
        ),
        (changed(W, lambda content: content[:-1]), "its pickle is damaged|does not end"),
        (changed(W, lambda content: content.replace(b"FloatStorage", b"FlautStorage")), "unknown kind .FlautStorage."),
        (changed(W, lambda content: b"\x80\x02}q\x00."), None),
        (changed(W, lambda content: b"\x80\x02(."), "it is not a dict of tensors by name"),
        (changed(W, lambda content: b"\x80\x02u."), "its pickle is damaged"),
        (changed(W, lambda content: b"\x80\x02cos\nsystem\n)\x81."), "has an instruction that state dicts have not"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, make, message):
    path = tmp_path / "x.pt"
    make(path)
    if message is None:
        assert read_torch_state(path) == {}
        return
    with pytest.raises(CheckpointError, match=message):
        read_torch_state(path)


def test_damaged_bytes_end_in_an_error_of_ours_or_in_arrays(tmp_path):
    content = torch_bytes({"w": np.ones((2, 3), "<f4"), "b": np.zeros(3, "<f4")})
    path = tmp_path / "x.pt"
    refused = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            read_torch_state(path)
        except CheckpointError:
            refused += 1
    assert refused > len(content) // 2


# Conversion.

OPTIONS = {"multiplier": 0.25, "units": (1, 1, 1), "embedding_size": 16}


@pytest.fixture
def published(tmp_path):
    """A checkpoint, and its parameters as a state dict with names of its own and counters."""
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", seed=3, **OPTIONS)
    _, args, auxs = load_checkpoint(prefix, 0)
    arrays = {name: value.asnumpy() for name, value in {**args, **auxs}.items()}
    state = collections.OrderedDict()
    for place, name in enumerate(parameter_order("vargfacenet", **OPTIONS)):
        state[f"layer.{place}"] = arrays[name]
        if name.endswith("_moving_var"):
            state[f"layer.{place}.num_batches_tracked"] = np.array(9, "<i8")
    return prefix, arrays, state


def test_a_state_dict_becomes_the_checkpoint_that_it_was_made_of(published, tmp_path):
    _, arrays, state = published
    dense = next(name for name, value in state.items() if value.ndim == 2)
    state[dense] = state[dense][:, :, None, None]  # as a 1x1 convolution
    done = convert_torch_state(write(tmp_path / "x.pt", state), tmp_path / "out", "vargfacenet", **OPTIONS)
    assert len(done.left_out) == sum("num_batches" in name for name in state)
    _, args, auxs = load_checkpoint(tmp_path / "out", 0)
    assert set(args) | set(auxs) == set(arrays)
    for name, value in {**args, **auxs}.items():
        np.testing.assert_array_equal(value.asnumpy(), arrays[name])


def test_entries_of_another_network_are_refused_by_the_first_that_differs(published, tmp_path):
    _, _, state = published
    names = list(state)
    write(tmp_path / "x.pt", {**state, "fc.weight": np.ones((4, 16), "<f4")})
    with pytest.raises(
        CheckpointError, match=r"x.pt has \d+ entries, vargfacenet multiplier=0.25 .* has \d+: they are not"
    ):
        convert_torch_state(tmp_path / "x.pt", tmp_path / "out", "vargfacenet", **OPTIONS)
    first = state[names[0]]
    write(tmp_path / "x.pt", {**state, names[0]: np.concatenate([first, first])})
    with pytest.raises(CheckpointError, match=r"entry 1 \(layer.0\) has shape .*, .* of vargfacenet"):
        convert_torch_state(tmp_path / "x.pt", tmp_path / "out", "vargfacenet", **OPTIONS)
    write(tmp_path / "x.pt", {**state, names[0]: np.full_like(first, np.nan)})
    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        convert_torch_state(tmp_path / "x.pt", tmp_path / "out", "vargfacenet", **OPTIONS)
    assert not list(tmp_path.glob("out*"))


def test_the_command_converts(published, tmp_path, capsys):
    _, arrays, state = published
    path, out = write(tmp_path / "x.pt", state), tmp_path / "out"
    options = ["multiplier=0.25", "units=1,1,1", "embedding_size=16"]
    assert main(["convert", str(path), str(out), "--as", "vargfacenet", "--set", *options]) == 0
    assert f"converted  {len(arrays)} entries, from layer.0 to" in capsys.readouterr().out
    assert mx.nd.load(f"{out}-0000.params")
    assert main(["convert", str(path), str(out)]) == 2
    assert "does not say which network it is of: give --as NETWORK" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "model"), str(out), "--set", "size=xs"]) == 2
    assert "--set is for a .pt or .pth file" in capsys.readouterr().err
