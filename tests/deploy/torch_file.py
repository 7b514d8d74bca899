"""Files as ``torch.save`` writes them, without PyTorch: a zip archive of one pickle and the bytes of each storage."""

import io
import pickle
import sys
import types
import zipfile

import numpy as np

KINDS = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "<u2": "BFloat16Storage",
}


class _Tensor:
    """An array under the name by which PyTorch pickles tensors."""

    def __init__(self, values, offset=0, shape=None, strides=None):
        self.values, self.offset, self.shape = values, offset, tuple(values.shape if shape is None else shape)
        rows = [int(np.prod(self.shape[axis + 1 :])) for axis in range(len(self.shape))]
        self.strides = tuple(rows if strides is None else strides)


def torch_modules():
    """Stand-ins for the modules that a pickle of PyTorch names (dict of name to module)."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in KINDS.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("nothing that a file names is called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    return {"torch": torch, "torch._utils": utils}


def torch_bytes(content, *, protocol=2, byteorder=b"little", folder="archive", compression=zipfile.ZIP_STORED):
    """The bytes of a file with this content, in which arrays and `tensor` stand for tensors."""
    modules, storages = torch_modules(), {}

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            if not isinstance(value, np.ndarray):
                return None
            key, _ = storages.setdefault(id(value), (len(storages), value))
            kind = getattr(modules["torch"], KINDS[value.dtype.str])
            return ("storage", kind, str(key), "cpu", value.size)

        def reducer_override(self, value):
            if not isinstance(value, _Tensor):
                return NotImplemented
            parts = (value.values, value.offset, value.shape, value.strides, False, {})
            return modules["torch._utils"]._rebuild_tensor_v2, parts

    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        stream = io.BytesIO()
        Pickler(stream, protocol).dump(wrapped(content))
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", stream.getvalue())
        archive.writestr(f"{folder}/byteorder", byteorder)
        for key, value in storages.values():
            archive.writestr(f"{folder}/data/{key}", value.tobytes())
        archive.writestr(f"{folder}/version", b"3\n")
    return file.getvalue()


def wrapped(content):
    """The content with its arrays as tensors."""
    if isinstance(content, np.ndarray):
        return _Tensor(content)
    if isinstance(content, dict):
        kind = type(content)
        return kind((key, wrapped(value)) for key, value in content.items())
    return content


def tensor(values, **form):
    """A tensor of these numbers with an offset, shape and strides of its own."""
    return _Tensor(values, **form)
