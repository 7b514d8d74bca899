"""Running an ONNX file in onnxruntime or OpenVINO."""

from __future__ import annotations

import functools
import importlib
import logging
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vargfacenet.deploy.admission import MOST_BYTES, check_onnx
from vargfacenet.deploy.signature import (
    LAYOUTS,
    OWN_SCALING,
    Scaling,
    Signature,
    keep_image_and_embedding,
    read_signature,
    scaling_of,
)
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError, SettingError, SetupError
from vargfacenet.eval import ImageEmbedder
from vargfacenet.formats.content import what_it_is
from vargfacenet.formats.files import read_bytes
from vargfacenet.options import unknown

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)
RUNTIMES = ("onnxruntime", "openvino")
FIXED = 2  # number of images up to which OpenVINO compiles for that number, which takes a tenth to a quarter off

_Run = Callable[[np.ndarray], np.ndarray]


class OnnxEmbedder(ImageEmbedder):
    """An ONNX file ready to embed batches of images, on the CPU.

    A file whose number of images is fixed, or that fails with more than one, is run with that number at a time.
    ``metadata`` are the properties of the file, ``scaling`` is the scaling in use.

    Parameters
    ----------
    model
        The file, or its content.
    runtime
        One of `RUNTIMES`.
    precision
        ``float32`` or ``bf16``, the precision in which OpenVINO computes; onnxruntime has ``float32`` alone. By default
        the file's own where the runtime has it, otherwise ``float32``.
    threads
        One for each usable core by default.
    scaling
        The scaling of images that the network expects; missing parts are found by `scaling_of`.

    Raises
    ------
    SetupError
        Where the runtime is not installed.
    DataError
        Where the file is missing, is not a network that embeds faces of 112x112, or is refused by `check_onnx`.
    SettingError
        For an unknown runtime, or a precision it does not have.
    """

    def __init__(
        self,
        model: str | pathlib.Path | bytes,
        *,
        runtime: str = "onnxruntime",
        precision: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        scaling: Scaling | None = None,
    ) -> None:
        if runtime not in RUNTIMES:
            raise unknown("runtime", runtime, RUNTIMES)
        known = ("float32", "bf16") if runtime == "openvino" else ("float32",)
        if precision not in (None, *known):
            raise SettingError(f"precision {precision!r}: {runtime} computes in {' or '.join(known)}")
        self.batch_size = batch_size
        self._name = "the network" if isinstance(model, bytes) else str(model)
        content = model if isinstance(model, bytes) else read_bytes(model, limit=MOST_BYTES)
        content, proto = _admit(content, self._name)
        self.metadata = {entry.key: entry.value for entry in proto.metadata_props}
        signature = read_signature(proto, self._name)
        self.scaling, source = scaling_of(proto, self.metadata, scaling or Scaling(), self._name)
        if source.startswith("assumed"):
            log.info("%s takes images as %s (%s)", self._name, self.scaling, source)
        self._channels_last, self._at_once, self._dtype = signature.layout == "NHWC", signature.batch, signature.dtype
        if self._dtype == "uint8" and self.scaling._replace(bgr=False) != OWN_SCALING:
            raise DataError(f"{self._name} takes images as whole numbers, which are not scaled: give no scaling for it")
        if self._at_once:
            log.info(
                "%s takes %d image(s) at a time, which is slower; export it with any number (a dynamic batch)",
                self._name,
                self._at_once,
            )
        if precision is None:
            stated = self.metadata.get("precision", "")
            precision = stated if stated in known else "float32"
        threads = threads or usable_cores()
        self._run: _Run
        if runtime == "onnxruntime":
            self._run = _onnxruntime(content, self._name, threads, signature)
        else:
            self._run = _openvino(content, self._name, threads, precision, self._at_once or batch_size, signature)

    def embed_batch(self, images: np.ndarray) -> np.ndarray:
        images = self.scaling.apply(np.asarray(images, np.float32))
        if self._dtype == "uint8":
            images = np.clip(np.rint(images), 0, 255)  # means of pixels, as of scaled images, are no whole numbers
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1) if self._channels_last else images, self._dtype)
        if self._at_once is None and len(images) > 1:
            try:
                return self._rows(images)
            except _RuntimeFault as fault:
                # Where one image alone works, the graph has a size of 1 written into it.
                rows = self._in_parts(images, 1, fault)
            log.info("%s fails with several images: they are run one at a time, which is slower", self._name)
            self._at_once = 1
            return rows
        return self._in_parts(images, self._at_once or max(1, len(images)))

    def _in_parts(self, images: np.ndarray, size: int, fault: _RuntimeFault | None = None) -> np.ndarray:
        try:
            return np.concatenate([self._padded(images[at : at + size], size) for at in range(0, len(images), size)])
        except _RuntimeFault as error:
            raise DataError(f"{self._name} cannot be run: {_first_line(fault or error)}") from error

    def _padded(self, images: np.ndarray, size: int) -> np.ndarray:
        missing = size - len(images)
        whole = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)]) if missing else images
        return self._rows(whole)[: len(images)]

    def _rows(self, images: np.ndarray) -> np.ndarray:
        found = self._run(images)
        rows = found.reshape(found.shape[:2]) if found.ndim > 2 and set(found.shape[2:]) == {1} else found
        if rows.dtype.kind != "f":
            raise DataError(f"{self._name} gives numbers of {rows.dtype}, expected float32: it does not embed faces")
        if rows.ndim != 2 or len(rows) != len(images):
            raise DataError(
                f"{self._name} gives an output of shape {tuple(found.shape)} for {len(images)} images, expected one row of "
                "numbers each: its graph joins the images of a batch (such as view(1, -1)), or does not embed faces; "
                "export it again with view(x.size(0), -1)"
            )
        return rows.astype(np.float32, copy=False)


class _RuntimeFault(Exception):
    """The message of a runtime that cannot run a graph."""


def import_package(name: str) -> ModuleType:
    """Import an optional package; SetupError with the command that installs it where it is missing."""
    extra = "openvino" if name == "openvino" else "deploy"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SetupError(
            f"the Python package {name!r} is missing or broken ({error}): pip install 'vargfacenet[{extra}]'"
        ) from error


def _admit(content: bytes, name: str) -> tuple[bytes, onnx.ModelProto]:
    """Return the content and model of a file that `check_onnx` admits, with one input and one output."""
    package = import_package("onnx")
    try:
        model = package.ModelProto.FromString(content)
    except Exception as error:
        raise DataError(f"{name} is not an ONNX file{what_it_is(content)}") from error
    if not content:
        raise DataError(f"{name} is not an ONNX file; it is empty")
    changed = keep_image_and_embedding(model, name)
    check_onnx(model, name, LAYOUTS[read_signature(model, name).layout])
    return (model.SerializeToString() if changed else content), model


def _onnxruntime(content: bytes, name: str, threads: int, signature: Signature) -> _Run:
    onnxruntime = import_package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # failures are raised, and explained here
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DataError(f"onnxruntime does not accept {name}: {_first_line(error)}") from error

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return session.run(None, {signature.name: images})[0]
        except Exception as error:
            raise _RuntimeFault(_first_line(error)) from error

    return run


def _openvino(content: bytes, name: str, threads: int, precision: str, batch_size: int, signature: Signature) -> _Run:
    openvino = import_package("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bf16": "bf16"}[precision],
    }

    @functools.cache
    def compiled(count: int | None) -> Callable[[np.ndarray], Any]:
        """Return the network compiled for `count` images; for any number with None."""
        try:
            model = core.read_model(content, b"")
            if count:
                model.reshape([count, *LAYOUTS[signature.layout]])
            return core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise DataError(f"OpenVINO does not accept {name}: {_first_line(error)}") from error

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return np.array(compiled(_fixed(len(images)))(images)[0])
        except (RuntimeError, DataError) as error:
            raise _RuntimeFault(_first_line(error)) from error

    try:
        compiled(_fixed(batch_size))  # so that a file it does not accept is refused now
    except DataError:
        compiled(1)  # it may accept one image at a time
    return run


def _fixed(count: int) -> int | None:
    return count if 1 <= count <= FIXED else None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
