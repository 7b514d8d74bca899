"""Read the state dict in a PyTorch file, names and arrays, without PyTorch.

The file is a zip archive: one pickle, and the bytes of each storage. A pickle is a program for a stack machine, and
Python's own machine runs whatever code it names. This one knows the instructions that state dicts are made of and stops
at any other; nothing that a pickle names is looked up. The format is what ``torch.save`` writes since PyTorch 1.6.
"""

from __future__ import annotations

import io
import math
import os
import pathlib
import pickletools
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vargfacenet.errors import CheckpointError

_MOST_PICKLE, _MOST_ENTRIES = 1 << 21, 1 << 16  # bytes, tensors
_MOST_DIMENSIONS = 8
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
_REBUILD = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")
_DICT = "collections OrderedDict"
_NESTED = ("state_dict", "model", "model_state_dict")  # keys under which trainers put the state dict


class _Fault(Exception):
    """A fault of a file, in words."""


class _Name(str):
    """A global that a pickle names."""

    __slots__ = ()


class _Storage(NamedTuple):
    key: str
    kind: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_state(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a state dict, in its order; bfloat16 becomes float32.

    A state dict under the key ``state_dict``, ``model`` or ``model_state_dict`` of a dict is taken too.

    Raises
    ------
    CheckpointError
        Where the file cannot be read, is damaged, or holds anything but tensors by name.
    """
    path = pathlib.Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except _Fault as fault:
        raise CheckpointError(f"{path} holds no state dict that can be read: {fault}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a file of PyTorch 1.6 or later, or is damaged ({error}); save the state dict again with "
            "torch.save(model.state_dict(), path)"
        ) from None


def _read(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    names = archive.namelist()
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _Fault("the archive has no data.pkl; a TorchScript file has to be saved as a state dict")
    folder = pickles[0].rpartition("/")[0]
    if f"{folder}/byteorder" in names and _content(archive, f"{folder}/byteorder", 16) != b"little":
        raise _Fault("its numbers are big-endian")
    found = _run(_content(archive, pickles[0], _MOST_PICKLE))
    for key in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise _Fault("it is not a dict of tensors by name")
    others = [name for name, value in found.items() if not isinstance(value, _Tensor)]
    if others:
        raise _Fault(f"{others[0]!r} is no tensor; save model.state_dict() alone")
    if len(found) > _MOST_ENTRIES:
        raise _Fault(f"it has {len(found)} entries, more than {_MOST_ENTRIES}")
    storages: dict[str, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {}
    left = 2 * sum(member.file_size for member in archive.infolist())  # bytes that may be made, bfloat16 twice as wide
    for name, tensor in found.items():
        arrays[name] = _array(archive, folder, tensor, storages)
        left -= arrays[name].nbytes
        if left < 0:
            raise _Fault("its tensors hold more numbers than the file")
    return arrays


def _content(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return the bytes of a member, no more than the archive holds."""
    about = archive.getinfo(name)
    if about.file_size > most:
        raise _Fault(f"{name} has {about.file_size:,} bytes, more than {most:,}")
    if about.compress_type != zipfile.ZIP_STORED:
        raise _Fault(f"{name} is compressed, which torch.save does not do")
    return archive.read(name)


def _array(archive: zipfile.ZipFile, folder: str, tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    key, kind = tensor.storage
    if key not in storages:
        name = f"{folder}/data/{key}"
        if name not in archive.NameToInfo:
            raise _Fault(f"the storage {key} is missing")
        raw = _content(archive, name, 1 << 34)
        storages[key] = _numbers(raw, kind)
    values = storages[key]
    count = math.prod(tensor.shape)
    strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
    fits = all(one == other or size <= 1 for one, other, size in zip(tensor.strides, strides, tensor.shape))
    if count and not fits:
        return _strided(values, tensor)
    if not 0 <= tensor.offset <= tensor.offset + count <= len(values):
        raise _Fault(f"a tensor of shape {tensor.shape} is larger than its storage")
    return values[tensor.offset : tensor.offset + count].reshape(tensor.shape)


def _strided(values: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Return a tensor whose numbers are not in order, such as one in channels-last format."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides))
    if math.prod(tensor.shape) > len(values) or min(tensor.strides) < 0 or not 0 <= tensor.offset <= last < len(values):
        raise _Fault(f"a tensor of shape {tensor.shape} reaches beyond its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False).copy()


def _numbers(raw: bytes, kind: str) -> np.ndarray:
    itemsize = 2 if kind == "bfloat16" else np.dtype(kind).itemsize
    if len(raw) % itemsize:
        raise _Fault(f"a storage has {len(raw)} bytes, not a multiple of {itemsize}")
    if kind != "bfloat16":
        return np.frombuffer(raw, kind)
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)


_MARK = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT")


def _run(content: bytes) -> Any:
    """Return what a pickle makes: dicts, lists, tuples, numbers, text and `_Tensor`."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def above_mark() -> list[Any]:
        place = len(stack) - 1 - stack[::-1].index(_MARK)
        items = stack[place + 1 :]
        del stack[place:]
        return items

    try:
        argument: Any
        for opcode, argument, _ in pickletools.genops(io.BytesIO(content)):
            name = opcode.name
            if name in ("PROTO", "FRAME"):
                continue
            if name == "STOP":
                return stack.pop()
            if name == "MARK":
                stack.append(_MARK)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in _VALUES:
                stack.append(argument)
            elif name == "GLOBAL":
                stack.append(_Name(argument))
            elif name == "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_Name(f"{module} {attribute}"))
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "TUPLE":
                stack.append(tuple(above_mark()))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            elif name == "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][key] = value
            elif name == "SETITEMS":
                items = above_mark()
                stack[-1].update(zip(items[::2], items[1::2]))
            elif name in ("APPEND", "APPENDS"):
                items = [stack.pop()] if name == "APPEND" else above_mark()
                stack[-1].extend(items)
            elif name == "BINPERSID":
                stack.append(_storage(stack.pop()))
            elif name == "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments))
            elif name == "BUILD":
                stack.pop()  # the metadata of an OrderedDict, which no array depends on
            else:
                raise _Fault(f"its pickle has an instruction that state dicts have not ({name})")
    except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise _Fault(f"its pickle is damaged ({type(error).__name__})") from None
    raise _Fault("its pickle does not end")


def _storage(identity: Sequence[Any]) -> _Storage:
    word, kind, key, _, _ = identity
    name = str(kind).rpartition(" ")[2] if isinstance(kind, _Name) else ""
    if word != "storage" or name not in _STORAGES or not isinstance(key, str) or not key.isalnum():
        raise _Fault(f"it holds numbers of an unknown kind ({name or 'none'})")
    return _Storage(key, _STORAGES[name])


def _call(function: object, arguments: Any) -> Any:
    if function == _DICT and not arguments:
        return {}
    if function == _REBUILD[1] and isinstance(arguments[0], _Tensor):
        return arguments[0]
    if function != _REBUILD[0] or not isinstance(function, _Name):
        raise _Fault(
            f"it names {str(function)[:60]!r}, which is no part of a state dict; save model.state_dict() alone"
        )
    storage, offset, shape, strides = arguments[:4]
    whole = all(isinstance(number, int) and 0 <= number < 1 << 40 for number in (offset, *shape, *strides))
    if not (isinstance(storage, _Storage) and whole and len(shape) == len(strides) <= _MOST_DIMENSIONS):
        raise _Fault("a tensor in it is damaged")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))
